//! The server, the agent, or both end without warning, fifty times, at moments that seeds choose: while a rollout goes on,
//! while a push is found, cloned and built, while an application is deleted and made anew. Everything still ends where it
//! should, and under constant load no request fails meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{Dice, Load, Platform, Program, Repositories, until, within};
use serde_json::Value;

/// How often something is killed.
const KILLS: u64 = 50;
/// Rollouts and deletions take one to three seconds: moments within this reach all of their steps.
const LONGEST_MOMENT: Duration = Duration::from_millis(2500);
/// Applications that are built from Git, and how long from a push to its last step. The quick ones are there twice: what
/// is between the steps is the same for all, and all rounds together should not take long.
const BUILT: [(&str, Duration); 5] = [
    ("static", Duration::from_secs(5)),
    ("dockerfile", Duration::from_secs(5)),
    ("static", Duration::from_secs(5)),
    ("dockerfile", Duration::from_secs(5)),
    ("nodejs", Duration::from_secs(15)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_and_everything_ends_where_it_should() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let outcome = story(&platform).await;
    outcome.inspect_err(|_| platform.show_logs())
}

/// What an application should be like in the end.
struct Wanted {
    text: String,
    instances: u64,
}

/// All that is played with.
struct World<'a> {
    platform: &'a Platform,
    repositories: Repositories,
    namespace: String,
    wanted: BTreeMap<&'static str, Wanted>,
}

fn image(version: u64, instances: u64) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\nspec:\n  source: {{image: {{reference: \
         'berth/hello:1'}}}}\n  plan: nano\n  instances: {instances}\n  env: [{{name: VERSION, value: '{version}'}}]\n  \
         rollout: {{drain: 1s}}\n"
    )
}

async fn story(platform: &Platform) -> anyhow::Result<()> {
    // Other platforms may share this machine's Docker: the name is this one's alone.
    let namespace = format!("crash-{}", platform.http_port());
    platform.kubectl(&["create", "namespace", &namespace]).await?;
    let repositories = Repositories::serve(platform).await?;
    let mut world = World { platform, repositories, namespace, wanted: BTreeMap::new() };
    world.begin().await?;
    // What no round deletes is asked all the time, through rollouts of an image and of what was built.
    let mut loads = Vec::new();
    for name in ["web", "dockerfile"] {
        let application = platform.json(&["application", name, "-n", &world.namespace]).await?;
        loads.push(Load::start(platform, application["status"]["url"].as_str().context("no address")?)?);
    }

    let first_seed: u64 = std::env::var("BERTH_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from(std::process::id()));
    for round in 0..KILLS {
        let seed = first_seed + round;
        println!("round {round}: BERTH_SEED={seed}");
        world.round(round, seed).await.with_context(|| format!("with BERTH_SEED={seed}"))?;
    }
    for load in loads {
        let report = load.finish().await;
        println!("{report:?}");
        // The load sends some fifty requests a second, and a round takes a second at least.
        ensure!(report.bad.is_empty() && report.good > KILLS * 10, "requests failed: {report:?}");
    }
    platform.kubectl(&["delete", "-n", &world.namespace, "applications.berth.dev", "--all", "--timeout=120s"]).await?;
    until("nothing is left in Docker", within(120), async || {
        let traces = platform.traces(&world.namespace).await?;
        ensure!(traces.is_empty(), "{traces:?}");
        Ok(())
    })
    .await
}

impl World<'_> {
    /// Everything is there in its first version, and nothing was killed yet.
    async fn begin(&mut self) -> anyhow::Result<()> {
        self.apply(&image(1, 1)).await?;
        self.want("web", "Hello from Berth", 1);
        for name in ["static", "dockerfile", "nodejs"] {
            self.repositories.create(name).await?;
            self.apply(&self.yaml(name).await?).await?;
            self.want(name, "version 1", 1);
        }
        until("all are served", within(300), async || self.ends_well().await).await
    }

    /// The example's YAML, which ends in its `spec`; old instances are not kept for long, as nobody is slow here.
    async fn yaml(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.repositories.yaml(name).await? + "  rollout: {drain: 1s}\n")
    }

    fn want(&mut self, name: &'static str, text: &str, instances: u64) {
        self.wanted.insert(name, Wanted { text: text.to_owned(), instances });
    }

    async fn apply(&self, yaml: &str) -> anyhow::Result<()> {
        self.platform.kubectl_with(&["apply", "-n", &self.namespace, "-f", "-"], yaml).await.map(drop)
    }

    /// One change, one kill in its middle, one restart: then the world is as it was asked for.
    async fn round(&mut self, round: u64, seed: u64) -> anyhow::Result<()> {
        let mut dice = Dice::new(seed);
        let victims = *dice.one_of(&[&[Program::Server][..], &[Program::Agent], &[Program::Server, Program::Agent]]);
        match dice.below(30) {
            0..3 => {
                println!("  static is deleted and made anew; {victims:?}");
                // Asked before anything is killed: which one is the old one.
                let old = self.platform.json(&["application", "static", "-n", &self.namespace]).await?;
                let (anew, killed) = tokio::join!(
                    self.make_anew("static", &old["metadata"]["uid"]),
                    self.kill(victims, dice.moment(LONGEST_MOMENT))
                );
                anew.and(killed)?;
            }
            3..13 => {
                let (name, longest) = *dice.one_of(&BUILT);
                let version = u32::try_from(round + 2)?;
                // A server that starts looks at all branches. Else a look may be half a minute away, unless it is asked for.
                let asked = dice.below(3) > 0 || !victims.contains(&Program::Server);
                println!("  version {version} of {name} is pushed, asked for: {asked}; {victims:?}");
                self.repositories.push_version(name, version).await?;
                self.want(name, &format!("version {version}"), 1);
                let moment = dice.moment(if asked { longest } else { LONGEST_MOMENT });
                if asked {
                    // The command would wait for the outcome; with its server it ends as well, and is not missed.
                    let arguments = ["deploy", name, "-n", &self.namespace];
                    let killed = self.kill(victims, moment);
                    tokio::pin!(killed);
                    tokio::select! {
                        biased;
                        killed = &mut killed => killed?,
                        _ = self.platform.berth(&arguments) => killed.await?,
                    }
                } else {
                    self.kill(victims, moment).await?;
                }
            }
            _ => {
                let instances = 1 + dice.below(2);
                self.apply(&image(seed, instances)).await?;
                self.want("web", "Hello from Berth", instances);
                self.kill(victims, dice.moment(LONGEST_MOMENT)).await?;
            }
        }
        until("the change is carried out", within(180), async || self.ends_well().await).await
    }

    async fn kill(&self, victims: &[Program], moment: Duration) -> anyhow::Result<()> {
        tokio::time::sleep(moment).await;
        for victim in victims {
            self.platform.kill(*victim).await?;
        }
        self.platform.up().await
    }

    /// Deletes an application and makes it again as soon as its name is free, however often the server is away meanwhile.
    async fn make_anew(&self, name: &str, old: &Value) -> anyhow::Result<()> {
        let this = ["application", name, "-n", &self.namespace];
        let yaml = self.yaml(name).await?;
        until("there is another one", within(120), async || {
            // The object may be the old one, the old one while it goes, none, or the new one.
            match self.platform.json(&this).await {
                Ok(object) if object["metadata"]["uid"] != *old => return Ok(()),
                Ok(object) if object["metadata"]["deletionTimestamp"].is_null() => {
                    self.platform.kubectl(&[&["delete", "--wait=false"], &this[..]].concat()).await?;
                }
                Ok(_) => {}
                Err(_) => {
                    self.platform.kubectl_with(&["create", "-n", &self.namespace, "-f", "-"], &yaml).await?;
                }
            }
            anyhow::bail!("not yet")
        })
        .await
    }

    /// Each application is ready and answers with its version; each of its instances is one container, of the present
    /// release, and there is no other.
    async fn ends_well(&self) -> anyhow::Result<()> {
        let of = |kind| [kind, "-n", &self.namespace];
        let applications = self.platform.items(&of("applications")).await?;
        let instances = self.platform.items(&of("instances")).await?;
        ensure!(applications.len() == self.wanted.len(), "{} applications", applications.len());
        for application in &applications {
            let name = application["metadata"]["name"].as_str().context("no name")?;
            self.is_as_wanted(name, application, &instances).await.with_context(|| name.to_owned())?;
        }
        let count: u64 = self.wanted.values().map(|wanted| wanted.instances).sum();
        let containers = self.platform.containers(&self.namespace).await?;
        ensure!(containers.len() as u64 == count, "{count} instances but {containers:?}");
        Ok(())
    }

    async fn is_as_wanted(&self, name: &str, application: &Value, all: &[Value]) -> anyhow::Result<()> {
        let wanted = self.wanted.get(name).context("nobody wants it")?;
        let ready = Platform::condition(application, "Ready").context("no condition yet")?;
        ensure!(
            ready["status"] == "True"
                && application["status"]["observedGeneration"] == application["metadata"]["generation"],
            "not ready: {ready}"
        );
        let url = application["status"]["url"].as_str().context("no address")?;
        let (status, body) = self.platform.get(url).await?;
        ensure!(status == 200 && body.contains(&wanted.text), "{status}, and not {:?}: {body}", wanted.text);
        let release = &application["status"]["activeRelease"];
        let own: Vec<&Value> = all.iter().filter(|instance| instance["spec"]["application"] == name).collect();
        let present = own.iter().filter(|instance| instance["spec"]["release"] == *release).count() as u64;
        let count = wanted.instances;
        ensure!(own.len() as u64 == count && present == count, "{} instances, {present} present", own.len());
        Ok(())
    }
}

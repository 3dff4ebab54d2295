//! What one build does: fetch, find out, write a Dockerfile or check the customer's, build.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crds::build::BuildPhase;
use futures::TryStreamExt as _;
use node_protocol::BuildTask;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clone::Fetch;
use super::context::{Layout, pack, scan};
use super::detect::{PORT, Plan, Recipe, Step, plan};
use super::dockerfile::{From, Stage, Take, stages};
use super::failure::{Failure, hint_for, of_build, of_engine};
use super::ignore::Ignore;
use super::log::Log;
use super::source::Source;
use super::{Inner, check, render};
use crate::labels;
use crate::machine::{ByteStream, Error, HelperNetwork, HelperSpec, Image, ImageBuild, LogSink, Workshop};

/// Where the Dockerfile lies in the context.
const DOCKERFILE: &str = ".berth.Dockerfile";
/// The certificates to trust, in the context of a customer's Dockerfile.
const CERTIFICATES: &str = ".berth-certificates.pem";
/// The certificates that this machine trusts, by distribution.
const SYSTEM_CERTIFICATES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// How much a stage may hand on: an application with all its packages is a tenth of it.
const CARRIED_BYTES_MAX: u64 = 4 << 30;
/// Less memory than any package manager gets by with.
const MEMORY_BYTES_MIN: u64 = 256 << 20;

/// A finished image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Built {
    /// Its reference.
    pub(super) image: String,
    /// Its id.
    pub(super) id: String,
    /// The port it listens on, if that is known.
    pub(super) port: Option<u16>,
}

/// Does a build, and says in its log how it ended.
pub(super) async fn work<W: Workshop>(
    inner: &Inner<W>,
    task: &BuildTask,
    sink: LogSink,
    cancel: &CancellationToken,
) -> Result<Built, Failure> {
    let git = &task.git;
    let secrets: Vec<&str> = [&git.password, &git.ssh_private_key].into_iter().flatten().map(String::as_str).collect();
    let log = Arc::new(Mutex::new(Log::new(sink, &secrets)));
    let build = Build { inner, task, log: &log, cancel };
    let done = build.run().await;
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    match done {
        Ok(built) => {
            log.say(&format!("built {}", built.image));
            Ok(built)
        }
        Err(mut failure) => {
            log.flush();
            let telling = log.find(|line| hint_for(line).is_some()).map(|(number, line)| (number, hint_for(line)));
            if failure.reason == "CommandFailed" && failure.exit_code.is_some() {
                failure.line = telling.map(|(number, _)| number).or_else(|| log.last_line());
                failure.hint = failure.hint.or_else(|| telling.and_then(|(_, hint)| hint.map(str::to_owned)));
            } else if failure.exit_code.is_some() {
                failure.line = log.last_line();
            }
            log.say(&format!("{}: {}", failure.reason, failure.message));
            if let Some(hint) = &failure.hint {
                log.say(&format!("what to do: {hint}"));
            }
            Err(failure)
        }
    }
}

struct Build<'a, W> {
    inner: &'a Inner<W>,
    task: &'a BuildTask,
    log: &'a Arc<Mutex<Log>>,
    cancel: &'a CancellationToken,
}

impl<W: Workshop> Build<'_, W> {
    fn say(&self, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).say(text);
    }

    async fn run(&self) -> Result<Built, Failure> {
        let (task, uid) = (self.task, self.task.uid.as_str());
        let kept = |problem: std::io::Error| Failure::new("BuilderUnavailable", format!("the node's disk: {problem}"));
        let (folder, before) = self.inner.folder.begin(uid).map_err(kept)?;
        if before {
            self.say("the node's agent was restarted: the build begins again");
        }
        let certificates = certificates(self.inner.settings.extra_ca_file.as_deref()).map_err(kept)?;
        let archive = folder.join("source.tar");
        self.say(&format!("fetching {} of {}", task.git.branch, crds::git::redacted(&task.git.url)));
        let fetch = Fetch {
            workshop: &*self.inner.workshop,
            task,
            image: &self.inner.settings.git_image,
            networks: &self.inner.settings.source_networks,
            certificates: certificates.as_deref(),
            log: self.log,
            cancel: self.cancel,
        };
        let commit = fetch.run(&archive).await?;
        self.say(&format!(
            "commit {}: {} ({})",
            &commit.sha[..12.min(commit.sha.len())],
            commit.message,
            commit.author
        ));
        self.inner.report(uid, |build| {
            build.commit = Some(commit);
            build.phase = BuildPhase::Building;
        });

        let path = archive.clone();
        let scanned = tokio::task::spawn_blocking(move || scan(&path)).await;
        let scanned = scanned.map_err(|problem| Failure::new("BuilderUnavailable", problem.to_string()))??;
        for note in &scanned.notes {
            self.say(note);
        }
        let plan = plan(&scanned.source, task)?;
        let built = match &plan {
            Plan::Recipe(recipe) => self.recipe(recipe, &archive, certificates).await,
            Plan::Dockerfile { runtime, path } => {
                self.dockerfile(runtime, path, &scanned.source, &archive, certificates).await
            }
        };
        // The source is of no more use, and the largest thing here.
        std::fs::remove_file(&archive).map_err(kept)?;
        built
    }

    /// Builds with a Dockerfile of ours.
    async fn recipe(&self, recipe: &Recipe, archive: &Path, certificates: Option<Vec<u8>>) -> Result<Built, Failure> {
        for found in &recipe.found {
            self.say(found);
        }
        self.say(&format!("started by: {}", recipe.start));
        self.inner.report(&self.task.uid, |build| {
            build.runtime = Some(recipe.runtime.clone());
            build.start_command = Some(recipe.start.clone());
            build.port = Some(i32::from(recipe.port));
        });
        for image in [&recipe.build_image, &recipe.run_image] {
            self.inner.workshop.ensure_image(image).await.map_err(|problem| match problem {
                Error::Refused(words) => Failure::new("ImageNotFound", format!("{image}: {words}"))
                    .hint("the administrator must build the base images on this node: images/build"),
                other => of_engine(&other),
            })?;
        }
        let text = render::dockerfile(recipe, &self.cache(), certificates.is_some());
        let mut files = Vec::new();
        files.extend(certificates.map(|pem| ("berth/certificates.pem".to_owned(), pem)));
        for step in &recipe.steps {
            if let Step::Write { name, text } = step {
                files.push((format!("berth/{name}"), text.clone().into_bytes()));
            }
        }
        let layout = Layout { files, ..Layout::default() };
        let image = self.stages(&text, archive, &layout, &BTreeMap::new()).await?;
        Ok(Built { image: self.task.image.clone(), id: image.id, port: Some(recipe.port) })
    }

    /// Builds with the customer's Dockerfile.
    async fn dockerfile(
        &self,
        runtime: &str,
        path: &str,
        source: &Source,
        archive: &Path,
        certificates: Option<Vec<u8>>,
    ) -> Result<Built, Failure> {
        let task = self.task;
        self.inner.report(&task.uid, |build| build.runtime = Some(runtime.to_owned()));
        let text = source
            .text(path)
            .ok_or_else(|| Failure::new("DockerfileRefused", format!("{path} is no text, or very large")))?;
        let args: BTreeMap<String, String> =
            self.task.options.args.iter().map(|arg| (arg.name.clone(), arg.value.clone())).collect();
        let checked = check::check(text, &args)?;
        for (line, image) in &checked.images {
            // Fetched now and not by the builder, so that what was looked at is what is built from.
            let found = self.fetched(image).await?;
            // Whatever it is called: what was built here is its application's, also within a project.
            let built = [labels::BUILD, labels::CACHE].iter().any(|label| found.labels.contains_key(*label));
            let wrong = if built || found.is_found_by_id(image) {
                format!("{image} is another application's image")
            } else if let Some(trigger) = found.triggers.first() {
                format!("{image} has ONBUILD {trigger:?}, which nobody has checked")
            } else {
                continue;
            };
            let failure = Failure::new("DockerfileRefused", format!("line {line} of {path}: {wrong}"));
            return Err(failure.hint("name another image of a registry"));
        }
        self.say(&format!("{path}: {} stages", checked.stages.len()));
        let trusted = certificates.as_ref().map(|_| CERTIFICATES);
        let text = render::with_additions(&checked.text, &checked.stages, &self.cache(), trusted);
        let ignore = source.text(&format!("{path}.dockerignore")).or_else(|| source.text(".dockerignore"));
        let files = certificates.map(|pem| (CERTIFICATES.to_owned(), pem)).into_iter().collect();
        let layout = Layout { ignore: Ignore::parse(ignore.unwrap_or_default()), files, ..Layout::default() };
        let image = self.stages(&text, archive, &layout, &args).await?;
        if self.task.start_command.is_none() && image.command.is_empty() && image.entrypoint.is_empty() {
            return Err(Failure::new("StartCommandNotFound", format!("{path} has neither CMD nor ENTRYPOINT"))
                .hint("add a CMD, or set spec.start.command"));
        }
        // With several ports nobody can tell which is meant, unless the usual one is among them.
        let exposed = match image.ports.len() {
            1 => image.ports.first().copied(),
            _ => image.ports.get(&PORT).copied(),
        };
        let port = self.task.port.or(exposed).unwrap_or(PORT);
        if let Some(command) = &self.task.start_command {
            self.inner.report(&self.task.uid, |build| build.start_command = Some(command.clone()));
        }
        Ok(Built { image: self.task.image.clone(), id: image.id, port: Some(port) })
    }

    fn cache(&self) -> String {
        format!("{}/{}", self.task.namespace, self.task.application)
    }

    /// Builds a Dockerfile stage by stage. The images of stages stay, for what they are quick to be made from next time.
    async fn stages(
        &self,
        text: &str,
        archive: &Path,
        layout: &Layout,
        args: &BTreeMap<String, String>,
    ) -> Result<Image, Failure> {
        let task = self.task;
        let name = |number: usize| format!("berth-stage/{}/{}:{number}", task.namespace, task.application);
        let stages = stages(text, name)?;
        let (last, before) =
            stages.split_last().ok_or_else(|| Failure::new("DockerfileRefused", "the Dockerfile has no FROM"))?;
        for stage in before {
            self.stage(stage, name, archive, layout.clone(), args, &name(stage.number)).await?;
        }
        self.stage(last, name, archive, layout.clone(), args, &task.image).await
    }

    async fn stage(
        &self,
        stage: &Stage,
        name: impl Fn(usize) -> String,
        archive: &Path,
        mut layout: Layout,
        args: &BTreeMap<String, String>,
        tag: &str,
    ) -> Result<Image, Failure> {
        for (number, take) in stage.takes.iter().enumerate() {
            let image = match &take.from {
                From::Stage(number) => name(*number),
                From::Image(image) => image.clone(),
            };
            let file = archive.with_file_name(format!("carried-{}-{number}.tar", stage.number));
            self.carry(&image, take, &file).await?;
            layout.carried.push((take.place.clone(), file));
        }
        layout.files.push((DOCKERFILE.to_owned(), stage.text.clone().into_bytes()));
        let carried: Vec<_> = layout.carried.iter().map(|(_, file)| file.clone()).collect();
        let image = self.build(archive, layout, args.clone(), tag).await;
        for file in carried {
            if let Err(problem) = tokio::fs::remove_file(&file).await {
                tracing::warn!(%problem, file = %file.display(), "what a stage made stays");
            }
        }
        image
    }

    /// An image that the Dockerfile names, from its registry if it is not here.
    async fn fetched(&self, image: &str) -> Result<Image, Failure> {
        let fetched = self.cancel.run_until_cancelled(self.inner.workshop.ensure_image(image)).await;
        fetched.unwrap_or(Err(Error::Cancelled)).map_err(|problem| match problem {
            Error::Refused(words) | Error::NotFound(words) => of_build(&words, 0),
            other => of_engine(&other),
        })
    }

    /// Takes files out of an image, by way of a container of it that does nothing.
    async fn carry(&self, image: &str, take: &Take, file: &Path) -> Result<(), Failure> {
        let workshop = &*self.inner.workshop;
        self.fetched(image).await?;
        let spec = HelperSpec {
            name: format!("berth-build-{}-carry", self.task.uid),
            image: image.to_owned(),
            command: vec!["/bin/true".to_owned()],
            env: Vec::new(),
            labels: BTreeMap::from([(labels::BUILD.to_owned(), self.task.uid.clone())]),
            working_dir: None,
            user: None,
            network: HelperNetwork::None,
            volumes: Vec::new(),
            tmpfs: Vec::new(),
            files: None,
            cpu_millis: 100,
            memory_bytes: 64 << 20,
            pids: 8,
            extra_hosts: Vec::new(),
            keep: true,
        };
        let (sender, _receiver) = mpsc::channel(1);
        let ended = workshop.run_helper(spec, sender, self.cancel).await.map_err(|problem| match problem {
            Error::Refused(words) | Error::NotFound(words) => {
                Failure::new("CommandFailed", format!("nothing can be taken from {image}: {words}"))
                    .hint("COPY --from needs an image that has /bin/true")
            }
            other => of_engine(&other),
        })?;
        let copied = self.save(workshop.copy_out(&ended.container, &take.path), file).await;
        if let Err(problem) = workshop.remove_helper(&ended.container).await {
            tracing::warn!(%problem, "a container from which files were taken stays");
        }
        copied.map_err(|problem| match problem {
            Error::NotFound(_) => Failure::new("CommandFailed", format!("{} is not there to be copied", take.path))
                .hint("check that the build makes it, and its path; for a site, spec.build.output"),
            other => of_engine(&other),
        })
    }

    async fn save(&self, mut pieces: ByteStream, file: &Path) -> Result<(), Error> {
        let broken = |problem: std::io::Error| Error::Refused(format!("the node's disk: {problem}"));
        let mut target = tokio::fs::File::create(file).await.map_err(broken)?;
        let mut bytes = 0_u64;
        let copy = async {
            while let Some(piece) = pieces.try_next().await? {
                bytes += piece.len() as u64;
                if bytes > CARRIED_BYTES_MAX {
                    return Err(Error::Refused(format!("a stage hands on more than {} GiB", CARRIED_BYTES_MAX >> 30)));
                }
                target.write_all(&piece).await.map_err(broken)?;
            }
            target.flush().await.map_err(broken)
        };
        self.cancel.run_until_cancelled(copy).await.unwrap_or(Err(Error::Cancelled))
    }

    async fn build(
        &self,
        archive: &Path,
        layout: Layout,
        args: BTreeMap<String, String>,
        tag: &str,
    ) -> Result<Image, Failure> {
        let task = self.task;
        let memory_bytes = task.memory_bytes.max(MEMORY_BYTES_MIN);
        let build = ImageBuild {
            context: pack(archive.to_owned(), layout),
            dockerfile: DOCKERFILE.to_owned(),
            args,
            labels: BTreeMap::from([
                (labels::BUILD.to_owned(), task.uid.clone()),
                (labels::NAMESPACE.to_owned(), task.namespace.clone()),
                (labels::APPLICATION.to_owned(), task.application.clone()),
            ]),
            tag: tag.to_owned(),
            cpu_millis: task.cpu_millis,
            memory_bytes,
            network: HelperNetwork::Outside,
            cache: true,
        };
        let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(64);
        let listen = async {
            while let Some(piece) = receiver.recv().await {
                self.log.lock().unwrap_or_else(PoisonError::into_inner).write(&piece);
            }
        };
        let (built, ()) = tokio::join!(self.inner.workshop.build_image(build, sender, self.cancel), listen);
        let id = built.map_err(|problem| match &problem {
            Error::Refused(words) | Error::NotFound(words) => of_build(words, memory_bytes),
            other => of_engine(other),
        })?;
        let image = self.inner.workshop.inspect_image(&id).await.map_err(|problem| of_engine(&problem))?;
        image.ok_or_else(|| Failure::new("BuilderUnavailable", "the image is gone as soon as it was built"))
    }
}

/// The certificates that builds trust: this machine's and the administrator's. Nothing, if there is nothing to add to
/// what images trust anyway.
fn certificates(extra: Option<&Path>) -> std::io::Result<Option<Vec<u8>>> {
    let Some(extra) = extra else { return Ok(None) };
    let mut bundle = std::fs::read(extra)?;
    for file in SYSTEM_CERTIFICATES {
        if let Ok(system) = std::fs::read(file) {
            bundle.push(b'\n');
            bundle.extend(system);
            break;
        }
    }
    Ok(Some(bundle))
}

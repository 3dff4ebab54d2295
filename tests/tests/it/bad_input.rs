//! What a person gets wrong, and the words they read: at the door, and later from Git, builds and instances.

use anyhow::ensure;
use e2e::{Platform, Repositories, until, within};

/// An Application with this spec, as YAML.
fn application(spec: &str) -> String {
    format!("apiVersion: berth.dev/v1alpha1\nkind: Application\nmetadata: {{name: bad}}\nspec: {spec}\n")
}

/// An Application of an image, with more fields.
fn with(fields: &str) -> String {
    application(&format!("{{source: {{image: {{reference: 'berth/hello:1'}}}}, plan: small, {fields}}}"))
}

/// An Application of a Git repository, with these fields in its source.
fn git(fields: &str) -> String {
    application(&format!("{{source: {{git: {{{fields}}}}}, plan: small}}"))
}

fn named(name: &str) -> String {
    with("").replace("name: bad", &format!("name: {name}"))
}

fn plan(fields: &str) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Plan\nmetadata: {{name: bad}}\nspec: {{cpu: 1, memory: 1Gi, disk: 1Gi, pricePerHour: '0.01', {fields}}}\n"
    )
}

fn runtime(fields: &str) -> String {
    format!(
        "apiVersion: berth.dev/v1alpha1\nkind: Runtime\nmetadata: {{name: bad}}\nspec: {{language: nodejs, runImage: 'berth/nodejs:20', {fields}}}\n"
    )
}

/// What is written, and a text that the answer must hold. None of them may be stored.
fn refused_at_the_door() -> Vec<(String, &'static str)> {
    let long_name = "x".repeat(41);
    let long_value = "x".repeat(40_000);
    vec![
        // Shape.
        (with("replicas: 3"), "unknown field \"spec.replicas\""),
        (with("start: {cmd: x}"), "unknown field \"spec.start.cmd\""),
        (with("env: [{name: A, vlaue: b}]"), "unknown field \"spec.env[0].vlaue\""),
        (with("instances: two"), "spec.instances"),
        (with("instances: '2'"), "must be of type integer"),
        (with("running: 'yes'"), "must be of type boolean"),
        (with("env: {A: b}"), "must be of type array"),
        (application("{source: {image: {reference: x}}}"), "spec.plan: Required value"),
        (application("{plan: small}"), "spec.source: Required value"),
        (application("{plan: small, source: {}}"), "give exactly one of git and image"),
        (
            application("{plan: small, source: {image: {reference: x}, git: {url: 'https://git.example.com/a.git'}}}"),
            "give exactly one of git and image",
        ),
        (application("{plan: small, source: {git: {}}}"), "spec.source.git.url: Required value"),
        (
            "apiVersion: berth.dev/v1\nkind: Application\nmetadata: {name: bad}\n".to_owned(),
            "no matches for kind \"Application\" in version \"berth.dev/v1\"",
        ),
        (
            "apiVersion: berth.dev/v1alpha1\nkind: Aplication\nmetadata: {name: bad}\n".to_owned(),
            "no matches for kind \"Aplication\" in version \"berth.dev/v1alpha1\"",
        ),
        ("apiVersion: berth.dev/v1alpha1\nkind: Application\nspec: {}\n".to_owned(), "resource name may not be empty"),
        // Bounds.
        (with("instances: -1"), "should be greater than or equal to 0"),
        (with("instances: 1001"), "should be less than or equal to 1000"),
        (with("start: {port: 0}"), "spec.start.port"),
        (with("start: {port: 65536}"), "should be less than or equal to 65535"),
        (with("rollout: {maxSurge: 0, maxUnavailable: 0}"), "maxSurge and maxUnavailable must not both be 0"),
        (with("rollout: {maxSurge: -1}"), "spec.rollout.maxSurge"),
        (with("rollout: {drain: 11m}"), "must be at most 10m"),
        (with("build: {timeout: 16m}"), "must be between 1s and 15m"),
        (with("build: {timeout: 10}"), "spec.build.timeout"),
        (with("build: {timeout: soon}"), "spec.build.timeout"),
        (with("health: {interval: 1ms}"), "must be between 1s and 5m"),
        (with("health: {failures: 0}"), "spec.health.failures"),
        (with("health: {path: healthz}"), "spec.health.path"),
        (with(&format!("env: [{{name: A, value: '{long_value}'}}]")), "spec.env[0].value: Too long"),
        // Names.
        (named(&long_name), "1 to 40 of a-z, 0-9 and -"),
        (named("Shop"), "metadata.name"),
        (named("shop_1"), "metadata.name"),
        (named("'-shop'"), "metadata.name"),
        (named("'a;id'"), "metadata.name"),
        (named("'$(id)'"), "metadata.name"),
        (named("'../../etc/passwd'"), "name"),
        (with("region: 'eu 1'"), "spec.region"),
        (with("release: '../x'"), "spec.release"),
        // Environment.
        (with("env: [{name: '1A', value: b}]"), "spec.env[0].name"),
        (with("env: [{name: 'A B', value: b}]"), "spec.env[0].name"),
        (with("env: [{name: 'A=B', value: b}]"), "spec.env[0].name"),
        (with("env: [{name: PORT, value: '1'}]"), "is set by Berth"),
        (with("env: [{name: BERTH_X, value: '1'}]"), "are set by Berth"),
        (with("env: [{name: A, value: '1'}, {name: A, value: '2'}]"), "Duplicate value"),
        (
            with("env: [{name: A, value: b, valueFrom: {secretKeyRef: {name: s, key: k}}}]"),
            "give either value or valueFrom, not both",
        ),
        // Hosts.
        (with("domains: ['shop']"), "must be a host name"),
        (with("domains: ['*.example.com']"), "must be a host name"),
        (with("domains: ['Shop.example.com']"), "must be a host name"),
        (with("domains: ['a.example.com; return 200']"), "must be a host name"),
        (with(r#"domains: ["a.example.com\n}"]"#), "must be a host name"),
        (with("domains: ['10.0.0.1']"), "must be a host name"),
        (with("domains: ['a.example.com', 'a.example.com']"), "Duplicate value"),
        // Images and commands.
        (with("").replace("berth/hello:1", "berth/hello:1; id"), "must be an image reference"),
        (with("").replace("berth/hello:1", "-v/:/host"), "must be an image reference"),
        (with(r#"start: {command: "node\nrm -rf /"}"#), "spec.start.command"),
        (with(r#"start: {command: 'node "server'}"#), "spec.start.command"),
        (with("build: {dockerfile: '../../Dockerfile'}"), "must be a path inside"),
        (with("build: {output: /etc}"), "must be a path inside"),
        (with("build: {args: [{name: 'A;B', value: x}]}"), "spec.build.args[0].name"),
        // Git.
        (git("url: 'file:///etc/passwd'"), "spec.source.git.url"),
        (git("url: 'ext::sh -c id'"), "spec.source.git.url"),
        (git("url: 'git@git.example.com:a/b'"), "spec.source.git.url"),
        (git("url: 'https://git.example.com'"), "must have the path of a repository"),
        (git("url: 'https://me:hunter2@git.example.com/a.git'"), "must not hold a user name or password"),
        (git("url: 'ssh://-oProxyCommand=id/a.git'"), "spec.source.git.url"),
        (git("url: 'https://git.example.com/a.git', branch: '--upload-pack=id'"), "spec.source.git.branch"),
        (git("url: 'https://git.example.com/a.git', branch: 'a..b'"), "must be the name of a Git branch"),
        (git("url: 'https://git.example.com/a.git', branch: 'main; id'"), "spec.source.git.branch"),
        (git("url: 'https://git.example.com/a.git', path: '../..'"), "must be a folder inside the repository"),
        (git("url: 'https://git.example.com/a.git', path: /etc"), "must be a folder inside the repository"),
        (git("url: 'https://git.example.com/a.git', credentials: {secretName: 'a b'}"), "must be the name of a Secret"),
        // The administrator's kinds.
        (plan("memory: 1gi"), "spec.memory"),
        (plan("cpu: -1"), "spec.cpu"),
        (plan("cpu: 1000"), "must be between 10m and 64"),
        (plan("disk: 1Ki"), "must be between 64Mi and 16Ti"),
        (plan("pricePerHour: 0.01"), "must be of type string"),
        (plan("pricePerHour: '-1'"), "spec.pricePerHour"),
        (plan("pricePerHour: '0.0000001'"), "spec.pricePerHour"),
        (plan("currency: euro"), "spec.currency"),
        (plan("for: Pizza"), "supported values: \"Application\", \"Database\""),
        (runtime("language: cobol"), "Unsupported value: \"cobol\""),
        (runtime("runImage: 'a b'"), "must be an image reference"),
        (runtime("version: 'twenty'"), "spec.version"),
        (
            "apiVersion: berth.dev/v1alpha1\nkind: Runtime\nmetadata: {name: bad}\nspec: {language: php}\n".to_owned(),
            "runImage is required",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_is_said_in_words_that_help() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    at_the_door(&platform).await.inspect_err(|_| platform.show_logs())?;
    later(&platform).await.inspect_err(|_| platform.show_logs())
}

async fn at_the_door(platform: &Platform) -> anyhow::Result<()> {
    let cases = refused_at_the_door();
    ensure!(cases.len() >= 60, "there are {} cases", cases.len());
    let mut surprises = Vec::new();
    for (yaml, expected) in cases {
        // The later of two equal keys would win silently: the strict reader refuses the whole, so the first must go.
        let yaml = last_wins(&yaml);
        let output = platform.try_kubectl(&["apply", "-f", "-"], &yaml).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || !said.contains(expected) {
            surprises.push(format!("{yaml}  expected {expected:?}, got {said:?}"));
        }
        ensure!(!said.contains("hunter2"), "an error repeats a password: {said}");
    }
    ensure!(surprises.is_empty(), "{}", surprises.join("\n"));
    let left = platform.items(&["applications", "-A"]).await?;
    ensure!(left.is_empty(), "something was stored all the same: {left:?}");
    Ok(())
}

/// In `{a: 1, b: 2, a: 3}` of the tables above the later field replaces the earlier one.
fn last_wins(yaml: &str) -> String {
    let Some((head, spec)) = yaml.split_once("spec: {") else { return yaml.to_owned() };
    let mut fields: Vec<String> = Vec::new();
    let (mut depth, mut quote, mut field) = (0, None, String::new());
    for character in spec.trim_end().trim_end_matches('}').chars() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth -= 1,
            _ => {}
        }
        if character == ',' && depth == 0 && quote.is_none() {
            fields.push(std::mem::take(&mut field));
        } else {
            field.push(character);
        }
    }
    fields.push(field);
    let key = |field: &str| field.split(':').next().unwrap_or_default().trim().to_owned();
    let kept: Vec<&String> = fields
        .iter()
        .enumerate()
        .filter(|(index, field)| {
            !fields[index + 1..].iter().any(|later| key(later) == key(field) && !key(field).is_empty())
        })
        .map(|(_, field)| field)
        .collect();
    let closing = "}".repeat(spec.trim_end().len() - spec.trim_end().trim_end_matches('}').len());
    let text = kept.iter().map(|field| field.as_str()).collect::<Vec<_>>().join(",");
    format!("{head}spec: {{{text}{closing}\n")
}

/// What only shows when it is tried: the application's condition says it in words.
async fn later(platform: &Platform) -> anyhow::Result<()> {
    let repositories = Repositories::serve(platform).await?;
    let nodejs = repositories.create("nodejs").await?;
    let missing = repositories.url("no-such-repository");
    let cases: Vec<(&str, String, &str, &[&str])> = vec![
        ("absent-plan", with("").replace("plan: small", "plan: enormous"), "Ready", &["enormous", "small"]),
        ("absent-runtime", with("runtime: cobol-60"), "Ready", &["cobol-60", "nodejs-20"]),
        ("too-many", with("instances: 900"), "Ready", &["instances"]),
        (
            "absent-secret",
            with("env: [{name: A, valueFrom: {secretKeyRef: {name: nowhere, key: k}}}]"),
            "Ready",
            &["nowhere"],
        ),
        ("absent-release", with("release: bad-12345678"), "Ready", &["bad-12345678"]),
        (
            "absent-image",
            with("").replace("berth/hello:1", "berth/no-such-image:1"),
            "Ready",
            &["berth/no-such-image:1"],
        ),
        ("absent-region", with("region: atlantis"), "Ready", &["atlantis"]),
        ("no-repository", git(&format!("url: '{missing}'")), "BuildSucceeded", &["repository"]),
        ("no-branch", git(&format!("url: '{nodejs}', branch: nowhere")), "BuildSucceeded", &["nowhere"]),
        ("private-network", git("url: 'http://10.99.99.99/a.git'"), "BuildSucceeded", &["10.99.99.99"]),
        ("metadata-service", git("url: 'http://169.254.169.254/a.git'"), "BuildSucceeded", &["169.254.169.254"]),
        ("no-such-host", git("url: 'https://git.example.invalid/a.git'"), "BuildSucceeded", &["git.example.invalid"]),
        ("no-folder", git(&format!("url: '{nodejs}', path: no/such/folder")), "BuildSucceeded", &["no/such/folder"]),
        (
            "wrong-runtime",
            git(&format!("url: '{nodejs}'")).replace("plan: small", "plan: small, runtime: python-3.11"),
            "BuildSucceeded",
            &["nothing says how the application is started"],
        ),
        (
            "closed-port",
            with("start: {command: 'sleep 1000', port: 9}, health: {grace: 3s}")
                .replace("berth/hello:1", "berth/debian:12"),
            "Ready",
            &["port 9"],
        ),
        (
            "no-such-command",
            with("start: {command: /no/such/program}, health: {grace: 3s}"),
            "Ready",
            &["/no/such/program"],
        ),
    ];
    for (name, yaml, ..) in &cases {
        let yaml = yaml.replace("name: bad", &format!("name: {name}"));
        platform.kubectl_with(&["apply", "-f", "-"], &yaml).await?;
    }
    until("each is told what is wrong", within(240), async || {
        let mut untold = Vec::new();
        for (name, _, condition, words) in &cases {
            let application = platform.json(&["application", name]).await?;
            let found = Platform::condition(&application, condition).cloned().unwrap_or_default();
            let message = found["message"].as_str().unwrap_or_default();
            if found["status"] == "True" || !words.iter().all(|word| message.contains(word)) {
                untold.push(format!("{name}: {condition} does not say {words:?}: {found}"));
            }
        }
        ensure!(untold.is_empty(), "{}", untold.join("\n"));
        Ok(())
    })
    .await?;
    platform.kubectl(&["delete", "applications.berth.dev", "--all", "--timeout=300s"]).await?;
    Ok(())
}

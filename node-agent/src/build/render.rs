//! The Dockerfile that we write: a pure function of a recipe.
//!
//! Commands and names stand in it as JSON strings, so that no text of a customer becomes an instruction of its own.
//! The context that it is built in has the source in `source/`, our own files in `berth/`.

use std::fmt::Write as _;

use serde_json::json;

use super::check::StageStart;
use super::context::SOURCE;
use super::detect::{Output, Recipe, Step};

/// Where the build's containers see the certificates to trust. Of the images that run only those of customers' own
/// Dockerfiles with commands in their last stage have it.
const CERTIFICATES: &str = "/tmp/berth-certificates.pem";
/// What programs read to find certificates.
const CERTIFICATE_VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "COMPOSER_CAFILE",
    "NPM_CONFIG_CAFILE",
    "CARGO_HTTP_CAINFO",
];
/// The user that builds and applications run as, in all of Berth's images.
const USER: &str = "65532:65532";

/// Text of the Dockerfile. `cache` tells the layers of one application from those of all others: nobody builds on what
/// another customer's commands made.
pub(super) fn dockerfile(recipe: &Recipe, cache: &str, certificates: bool) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    let commands = recipe.steps.iter().any(|step| matches!(step, Step::Run(_)));
    if commands {
        line(&format!("FROM {} AS build", recipe.build_image));
        line(&format!("LABEL dev.berth.cache={}", json!(cache)));
        line("WORKDIR /app");
        if certificates {
            line(&copy(&["berth/certificates.pem".to_owned()], CERTIFICATES));
            let variables = CERTIFICATE_VARIABLES.map(|name| format!("{name}={CERTIFICATES}"));
            line(&format!("ENV {}", variables.join(" ")));
        }
        for step in &recipe.steps {
            line(&instruction(step));
        }
        line("");
    }
    line(&format!("FROM {}", recipe.run_image));
    line(&format!("LABEL dev.berth.cache={}", json!(cache)));
    for (name, value) in &recipe.env {
        if crds_name(name) {
            line(&format!("ENV {name}={}", quoted(value)));
        }
    }
    line(&format!("ENV PORT={}", recipe.port));
    let from = if commands { "--from=build " } else { "" };
    let whole = if commands { "/app/" } else { SOURCE };
    let (source, target) = match &recipe.output {
        Output::Application => (whole.to_owned(), "/app/"),
        Output::Folder(folder) if folder == "." => (whole.to_owned(), "/srv/"),
        Output::Folder(folder) => (format!("{whole}{folder}/"), "/srv/"),
    };
    line(&format!("COPY {from}--chown={USER} {}", json!([source, target])));
    line("WORKDIR /app");
    line(&format!("USER {USER}"));
    line(&format!("EXPOSE {}", recipe.port));
    let command = crds::command::argv(&recipe.start).unwrap_or_default();
    line(&format!("CMD {}", json!(command)));
    text
}

fn instruction(step: &Step) -> String {
    match step {
        Step::Copy(files) => copy(&files.iter().map(|file| format!("{SOURCE}{file}")).collect::<Vec<_>>(), "./"),
        Step::Write { name, .. } => copy(&[format!("berth/{name}")], "./"),
        Step::CopyAll => copy(&[SOURCE.to_owned()], "./"),
        Step::Run(command) => format!("RUN {}", json!(["/bin/sh", "-c", command])),
    }
}

fn copy(files: &[String], target: &str) -> String {
    let list: Vec<&str> = files.iter().map(String::as_str).chain([target]).collect();
    format!("COPY --chown={USER} {}", json!(list))
}

fn crds_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// A value in double quotes, with what Docker would read there escaped. Control characters cannot be written in one.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\' | '$') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// A customer's Dockerfile with the layers of each stage told from other applications', and with the certificates to
/// trust in the stages that run commands, if the file `certificates` of the context has any.
pub(super) fn with_additions(
    dockerfile: &str,
    stages: &[StageStart],
    cache: &str,
    certificates: Option<&str>,
) -> String {
    let mut text = String::with_capacity(dockerfile.len() + 64 * stages.len());
    for (number, line) in dockerfile.lines().enumerate() {
        // Writing into a String cannot fail.
        _ = writeln!(text, "{line}");
        let Some(stage) = stages.iter().find(|stage| stage.line == number + 1) else { continue };
        _ = writeln!(text, "LABEL dev.berth.cache={}", json!(cache));
        let Some(file) = certificates.filter(|_| stage.runs) else { continue };
        _ = writeln!(text, "COPY {}", json!([file, CERTIFICATES]));
        // Arguments and not variables: commands see them, and the image that runs does not keep them.
        for name in CERTIFICATE_VARIABLES {
            _ = writeln!(text, "ARG {name}={CERTIFICATES}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn no_command_becomes_an_instruction() {
        let recipe = Recipe {
            runtime: "nodejs-20".to_owned(),
            build_image: "berth/nodejs:20-build".to_owned(),
            run_image: "berth/nodejs:20".to_owned(),
            steps: vec![
                Step::Copy(vec!["a \"b\".json".to_owned()]),
                Step::Run("echo \"$HOME\" && echo 'x' \\ USER root".to_owned()),
            ],
            output: Output::Application,
            env: BTreeMap::from([
                ("A".to_owned(), "x\"\nUSER root\n$HOME".to_owned()),
                ("B C".to_owned(), "no name".to_owned()),
            ]),
            start: "node \"my server.js\"".to_owned(),
            port: 3000,
            found: Vec::new(),
        };
        insta::assert_snapshot!(dockerfile(&recipe, "acme/web", true));
    }

    #[test]
    fn a_label_follows_each_stage_and_certificates_those_that_run_commands() {
        let stages = [StageStart { line: 1, runs: true }, StageStart { line: 3, runs: false }];
        let text = "FROM a AS x\nRUN b\nFROM c\nCMD d\n";
        let label = "LABEL dev.berth.cache=\"acme/web\"\n";
        assert_eq!(
            with_additions(text, &stages, "acme/web", None),
            format!("FROM a AS x\n{label}RUN b\nFROM c\n{label}CMD d\n")
        );
        let trusting = with_additions(text, &stages, "acme/web", Some("ca.pem"));
        let copied =
            format!("FROM a AS x\n{label}COPY [\"ca.pem\",\"{CERTIFICATES}\"]\nARG SSL_CERT_FILE={CERTIFICATES}\n");
        assert!(trusting.starts_with(&copied), "{trusting}");
        assert!(trusting.ends_with(&format!("\nRUN b\nFROM c\n{label}CMD d\n")), "{trusting}");
    }
}

//! What a folder of source is, and how it becomes an image: pure, from the files that people keep there anyway.

mod nodejs;
mod php;
mod python;
mod static_files;

use std::collections::BTreeMap;

use crds::runtime::Language;
use node_protocol::{BuildTask, RuntimeChoice};

use super::failure::Failure;
use super::source::Source;
use super::versions::Wanted;

/// The port that applications are told to listen on where nothing else says.
pub(super) const PORT: u16 = 8080;

/// How source becomes an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// With a Dockerfile that we write.
    Recipe(Box<Recipe>),
    /// With the customer's own, at this path.
    Dockerfile {
        /// The runtime's name.
        runtime: String,
        /// Its path.
        path: String,
    },
}

/// What our Dockerfile does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The runtime's name.
    pub(super) runtime: String,
    /// Image in which it is built.
    pub(super) build_image: String,
    /// Image on which it runs.
    pub(super) run_image: String,
    /// What is done, in order.
    pub(super) steps: Vec<Step>,
    /// What the image gets of it.
    pub(super) output: Output,
    /// Variables set when it runs.
    pub(super) env: BTreeMap<String, String>,
    /// The command that starts it.
    pub(super) start: String,
    /// The port it listens on.
    pub(super) port: u16,
    /// What was found, for the log.
    pub(super) found: Vec<String>,
}

/// One step of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Some files of the source, so that what follows is done anew only when they change.
    Copy(Vec<String>),
    /// A file that we write, beside the source.
    Write {
        /// Its name.
        name: &'static str,
        /// Its text.
        text: String,
    },
    /// All of the source.
    CopyAll,
    /// A command in the build's container.
    Run(String),
}

/// What an image gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// The whole folder, as `/app`.
    Application,
    /// A folder of it, as `/srv`.
    Folder(String),
}

impl Recipe {
    fn new(choice: &RuntimeChoice, start: String, task: &BuildTask) -> Result<Self, Failure> {
        let absent = || {
            Failure::new("RuntimeNotDetected", format!("the runtime {} names no image to run on", choice.name))
                .hint("the administrator must set spec.runImage of the Runtime")
        };
        let run_image = choice.run_image.clone().ok_or_else(absent)?;
        let env = choice.presets.env.iter().filter_map(|env| Some((env.name.clone(), env.value.clone()?)));
        let preset_port = choice.presets.port.and_then(|port| u16::try_from(port).ok());
        Ok(Self {
            runtime: choice.name.clone(),
            build_image: choice.build_image.clone().unwrap_or_else(|| run_image.clone()),
            run_image,
            steps: Vec::new(),
            output: Output::Application,
            env: env.collect(),
            start,
            port: task.port.or(preset_port).unwrap_or(PORT),
            found: Vec::new(),
        })
    }

    /// The application's own command for a step, else the runtime's, else what was found.
    fn run(&mut self, command: Option<String>) {
        self.steps.extend(command.map(Step::Run));
    }
}

/// Finds out how a source becomes an image.
pub(super) fn plan(source: &Source, task: &BuildTask) -> Result<Plan, Failure> {
    if source.is_empty() {
        return Err(Failure::new("RuntimeNotDetected", "there are no files in the application's folder")
            .hint("check spec.source.git.branch and spec.source.git.path"));
    }
    let language = if task.detect { language(source, task)? } else { chosen_language(task)? };
    match language {
        Language::Dockerfile => dockerfile(source, task),
        Language::NodeJs => nodejs::recipe(source, task).map(|recipe| Plan::Recipe(Box::new(recipe))),
        Language::Python => python::recipe(source, task).map(|recipe| Plan::Recipe(Box::new(recipe))),
        Language::Php => php::recipe(source, task).map(|recipe| Plan::Recipe(Box::new(recipe))),
        Language::Static => static_files::recipe(source, task).map(|recipe| Plan::Recipe(Box::new(recipe))),
        Language::Image => Err(Failure::new("RuntimeNotDetected", "the runtime `image` builds nothing")
            .hint("leave spec.runtime out, or name another one")),
    }
}

fn chosen_language(task: &BuildTask) -> Result<Language, Failure> {
    task.runtimes.first().map(|choice| choice.language).ok_or_else(|| {
        Failure::new("RuntimeNotDetected", "the application's runtime does not exist").hint("check spec.runtime")
    })
}

/// What a source is. A Dockerfile is the clearest word; then the files of a language's own tools, those of PHP and
/// Python before package.json, which many of their projects have for their pages.
fn language(source: &Source, task: &BuildTask) -> Result<Language, Failure> {
    let has = |files: &[&str]| files.iter().any(|file| source.has(file));
    let offered = |language: Language| task.runtimes.iter().any(|choice| choice.language == language);
    let dockerfile = task.options.dockerfile.as_deref().unwrap_or("Dockerfile");
    let found = if source.has(dockerfile) && offered(Language::Dockerfile) {
        Language::Dockerfile
    } else if has(&["composer.json"]) {
        Language::Php
    } else if has(python::MARKS) {
        Language::Python
    } else if has(&["package.json"]) {
        if static_files::is_site(source, task) { Language::Static } else { Language::NodeJs }
    } else if has(&["index.php", "public/index.php"]) {
        Language::Php
    } else if task.options.output.is_some() || has(static_files::MARKS) {
        Language::Static
    } else if has(&["server.js", "index.js", "app.js"]) {
        Language::NodeJs
    } else if has(python::PROGRAMS) {
        Language::Python
    } else {
        let files: Vec<&str> = source.paths().filter(|path| !path.contains('/')).take(8).collect();
        let files = if files.is_empty() { "none at the top".to_owned() } else { files.join(", ") };
        return Err(Failure::new(
            "RuntimeNotDetected",
            format!("nothing in the source says what it is written in (files: {files})"),
        )
        .hint(
            "add package.json, requirements.txt, composer.json, index.html or a Dockerfile, name spec.runtime, or set \
             spec.source.git.path to the application's folder",
        ));
    };
    Ok(found)
}

/// The runtime of a language that fits what the source wants; the best one if it wants nothing.
fn choose<'a>(
    task: &'a BuildTask,
    language: Language,
    wanted: Option<&Wanted>,
    best: impl Fn(&[u64]) -> bool,
) -> Result<(&'a RuntimeChoice, Vec<String>), Failure> {
    let offered: Vec<&RuntimeChoice> = task.runtimes.iter().filter(|choice| choice.language == language).collect();
    let numbers = |choice: &RuntimeChoice| -> Vec<u64> {
        choice.version.split('.').map(|number| number.parse().unwrap_or(0)).collect()
    };
    let fits = |choice: &&&RuntimeChoice| {
        wanted.is_none_or(|wanted| choice.version.is_empty() || wanted.allows(&choice.version))
    };
    // The newest of those that are meant for everybody, such as Node.js' even versions.
    let found = offered.iter().filter(fits).max_by_key(|choice| (best(&numbers(choice)), numbers(choice)));
    let versions: Vec<&str> = offered.iter().map(|choice| choice.version.as_str()).collect();
    let name = name(language);
    match (found, wanted) {
        (Some(choice), Some(wanted)) => {
            let said = format!("{}: {name} {}, so {}", wanted.file, wanted.text, choice.name);
            Ok((choice, vec![said]))
        }
        (Some(choice), None) => Ok((choice, vec![format!("no version is asked for: {}", choice.name)])),
        // A runtime that was chosen is used whatever the source says, and says so.
        (None, Some(wanted)) if !task.detect && !offered.is_empty() => {
            let choice = offered[0];
            let said = format!("{} asks for {name} {}; spec.runtime says {}", wanted.file, wanted.text, choice.name);
            Ok((choice, vec![said]))
        }
        (None, Some(wanted)) if !offered.is_empty() => Err(Failure::new(
            "RuntimeNotDetected",
            format!("{} asks for {name} {}; there are {}", wanted.file, wanted.text, versions.join(", ")),
        )
        .hint("ask for one of these versions, or bring a Dockerfile")),
        _ => Err(Failure::new("RuntimeNotDetected", format!("this is {name}, for which there is no active Runtime"))
            .hint("ask the administrator for a Runtime of this language, or bring a Dockerfile")),
    }
}

fn name(language: Language) -> &'static str {
    match language {
        Language::NodeJs => "Node.js",
        Language::Python => "Python",
        Language::Php => "PHP",
        Language::Static => "a static site",
        Language::Dockerfile => "a Dockerfile",
        Language::Image => "an image",
    }
}

fn dockerfile(source: &Source, task: &BuildTask) -> Result<Plan, Failure> {
    let path = task.options.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned());
    let path = path.trim_start_matches("./").to_owned();
    let choice = task.runtimes.iter().find(|choice| choice.language == Language::Dockerfile);
    if !source.has(&path) {
        return Err(Failure::new("DockerfileRefused", format!("there is no file {path}"))
            .hint("check spec.build.dockerfile: it is relative to spec.source.git.path"));
    }
    Ok(Plan::Dockerfile { runtime: choice.map_or_else(|| "dockerfile".to_owned(), |choice| choice.name.clone()), path })
}

/// The command that starts an application: what the application's object says, its Procfile, what its files say, and
/// last what the runtime does.
fn start_command(
    task: &BuildTask,
    source: &Source,
    preset: Option<&String>,
    found: impl FnOnce() -> Option<String>,
    hint: &str,
) -> Result<String, Failure> {
    let command = task.start_command.clone().or_else(|| source.procfile().map(str::to_owned));
    let command = command.or_else(found).or_else(|| preset.cloned());
    let command = command.ok_or_else(|| {
        Failure::new("StartCommandNotFound", "nothing says how the application is started").hint(hint)
    })?;
    if crds::command::argv(&command).is_none() {
        return Err(Failure::new("StartCommandNotFound", format!("the start command {command:?} cannot be read"))
            .hint("write it in one line, with its quotes closed"));
    }
    Ok(command)
}

#[cfg(test)]
mod tests;

//! Node.js: package.json and its lock file.

use crds::runtime::Language;
use node_protocol::BuildTask;
use serde_json::Value;

use super::{Recipe, Step, choose, start_command};
use crate::build::failure::Failure;
use crate::build::source::Source;
use crate::build::versions::{Notation, Wanted};

/// The image's pnpm, which would fetch the one that `packageManager` names and run that instead.
macro_rules! pnpm {
    () => {
        "pnpm --config.manage-package-manager-versions=false"
    };
}

/// The programs that install packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    Yarn,
    /// Yarn 2 and later, whose program lies in the repository.
    YarnBerry,
    Pnpm,
}

/// What package.json says.
pub(super) struct Package(Value);

impl Package {
    /// Reads it; nothing if there is none.
    pub(super) fn read(source: &Source) -> Result<Self, Failure> {
        match source.json("package.json") {
            None => Ok(Self(Value::Null)),
            Some(Ok(package)) => Ok(Self(package)),
            Some(Err(problem)) => Err(Failure::new("CommandFailed", format!("package.json: {problem}"))
                .hint("correct package.json: it must be JSON")),
        }
    }

    fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn script(&self, name: &str) -> Option<&str> {
        self.text(&format!("/scripts/{name}"))
    }

    pub(super) fn depends_on(&self, package: &str) -> bool {
        ["dependencies", "devDependencies"].iter().any(|kind| self.0[kind].get(package).is_some())
    }

    fn has_any(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| match &self.0[*kind] {
            Value::Object(map) => !map.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => false,
        })
    }
}

/// How an application of Node.js becomes an image.
pub(super) fn recipe(source: &Source, task: &BuildTask) -> Result<Recipe, Failure> {
    let package = Package::read(source)?;
    let (choice, found) = choose(task, Language::NodeJs, wanted(source, &package).as_ref(), is_long_term)?;
    let start = start_command(
        task,
        source,
        choice.presets.start.as_ref(),
        || start(source, &package),
        "add a `start` script to package.json, a Procfile with a `web:` line, or set spec.start.command",
    )?;
    let mut recipe = Recipe::new(choice, start, task)?;
    recipe.found = found;
    install_and_build(
        &mut recipe,
        source,
        task,
        &package,
        choice.presets.install.clone(),
        choice.presets.build.clone(),
        true,
    )?;
    // What scripts of package.json find by name is found without npm too.
    recipe.env.insert(
        "PATH".to_owned(),
        "/app/node_modules/.bin:/opt/node/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    );
    Ok(recipe)
}

/// Odd versions of Node.js live for half a year and are for trying out.
fn is_long_term(version: &[u64]) -> bool {
    version.first().is_some_and(|major| major % 2 == 0)
}

/// The steps that install and build, also for sites whose pages are made by Node.js.
pub(super) fn install_and_build(
    recipe: &mut Recipe,
    source: &Source,
    task: &BuildTask,
    package: &Package,
    install_preset: Option<String>,
    build_preset: Option<String>,
    prune: bool,
) -> Result<(), Failure> {
    let manager = manager(source, package)?;
    let locked = lock_file(source, manager);
    let dependencies = ["dependencies", "devDependencies", "optionalDependencies", "workspaces"];
    let install = install_preset.or_else(|| {
        (package.has_any(&dependencies) || locked.is_some()).then(|| install(manager, locked.is_some()).to_owned())
    });
    if let Some(locked) = locked {
        recipe.found.push(format!("{locked}: {}", install.as_deref().unwrap_or("nothing to install")));
    }
    match install {
        Some(command) if installs_from_few_files(source, package) => {
            recipe.steps.push(Step::Copy(install_files(source)));
            recipe.run(Some(command));
            recipe.steps.push(Step::CopyAll);
        }
        command => {
            recipe.steps.push(Step::CopyAll);
            recipe.run(command);
        }
    }
    let script = package.script("build").map(|_| format!("{} run build", program(manager)));
    recipe.run(task.options.command.clone().or(build_preset).or(script));
    if prune && package.has_any(&["devDependencies"]) && locked.is_some() {
        recipe.run(prune_command(manager).map(str::to_owned));
    }
    Ok(())
}

fn manager(source: &Source, package: &Package) -> Result<Manager, Failure> {
    let named = package.text("/packageManager").unwrap_or_default();
    if source.has("pnpm-lock.yaml") || (named.starts_with("pnpm@") && !source.has("package-lock.json")) {
        return Ok(Manager::Pnpm);
    }
    if source.has("yarn.lock") || (named.starts_with("yarn@") && !source.has("package-lock.json")) {
        let settings = source.text(".yarnrc.yml");
        if settings.is_some_and(|text| text.lines().any(|line| line.trim().starts_with("yarnPath:"))) {
            return Ok(Manager::YarnBerry);
        }
        let newer = settings.is_some() || (named.starts_with("yarn@") && !named.starts_with("yarn@1"));
        return if newer {
            Err(Failure::new(
                "CommandFailed",
                "this project uses Yarn 2 or later, whose program is not in the repository",
            )
            .hint("run `yarn set version stable --yarn-path` and commit .yarn/releases, or use npm or pnpm"))
        } else {
            Ok(Manager::Yarn)
        };
    }
    Ok(Manager::Npm)
}

fn lock_file(source: &Source, manager: Manager) -> Option<&'static str> {
    let candidates: &[&str] = match manager {
        Manager::Npm => &["package-lock.json", "npm-shrinkwrap.json"],
        Manager::Yarn | Manager::YarnBerry => &["yarn.lock"],
        Manager::Pnpm => &["pnpm-lock.yaml"],
    };
    candidates.iter().find(|file| source.has(file)).copied()
}

fn program(manager: Manager) -> &'static str {
    match manager {
        Manager::Npm => "npm",
        Manager::Yarn | Manager::YarnBerry => "yarn",
        Manager::Pnpm => pnpm!(),
    }
}

fn install(manager: Manager, locked: bool) -> &'static str {
    match (manager, locked) {
        (Manager::Npm, true) => "npm ci",
        (Manager::Npm, false) => "npm install",
        (Manager::Yarn, true) => "yarn install --frozen-lockfile",
        (Manager::Yarn, false) => "yarn install",
        (Manager::YarnBerry, _) => "yarn install --immutable",
        (Manager::Pnpm, true) => concat!(pnpm!(), " install --frozen-lockfile"),
        (Manager::Pnpm, false) => concat!(pnpm!(), " install"),
    }
}

fn prune_command(manager: Manager) -> Option<&'static str> {
    match manager {
        Manager::Npm => Some("npm prune --omit=dev"),
        Manager::Yarn => Some("yarn install --frozen-lockfile --production --ignore-scripts --prefer-offline"),
        // Its own plugin does this, and not every project has it.
        Manager::YarnBerry => None,
        Manager::Pnpm => Some(concat!(pnpm!(), " prune --prod --ignore-scripts")),
    }
}

/// Whether installing needs nothing but the files that name packages. Scripts and workspaces may read any file.
fn installs_from_few_files(source: &Source, package: &Package) -> bool {
    let scripts = ["preinstall", "install", "postinstall", "prepare", "prepublish"];
    let local = ["dependencies", "devDependencies", "optionalDependencies"].iter().any(|kind| {
        package.0[*kind].as_object().is_some_and(|packages| {
            packages.values().filter_map(Value::as_str).any(|version| {
                ["file:", "link:", "portal:", "workspace:", "./", "../"].iter().any(|start| version.starts_with(start))
            })
        })
    });
    scripts.iter().all(|script| package.script(script).is_none())
        && !local
        && !package.has_any(&["workspaces"])
        && !source.has("pnpm-workspace.yaml")
        && !source.has_folder("patches")
        && !source.has_folder(".yarn")
}

fn install_files(source: &Source) -> Vec<String> {
    [
        "package.json",
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        ".npmrc",
        ".yarnrc",
        ".pnpmfile.cjs",
    ]
    .iter()
    .filter(|file| source.has(file))
    .map(|file| (*file).to_owned())
    .collect()
}

/// The version of Node.js that is asked for, by the file that says it most precisely.
pub(super) fn wanted(source: &Source, package: &Package) -> Option<Wanted> {
    let npm = |text: Option<&str>, file| text.and_then(|text| Wanted::parse(&named(text), file, Notation::Npm));
    npm(source.line(".nvmrc"), ".nvmrc")
        .or_else(|| npm(source.line(".node-version"), ".node-version"))
        .or_else(|| npm(package.text("/volta/node"), "package.json (volta)"))
        .or_else(|| npm(source.tool_version(&["nodejs", "node"]), ".tool-versions"))
        .or_else(|| npm(package.text("/engines/node"), "package.json (engines)"))
}

/// Node.js' long-lived versions have names.
fn named(text: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("argon", "4"),
        ("boron", "6"),
        ("carbon", "8"),
        ("dubnium", "10"),
        ("erbium", "12"),
        ("fermium", "14"),
        ("gallium", "16"),
        ("hydrogen", "18"),
        ("iron", "20"),
        ("jod", "22"),
        ("krypton", "24"),
    ];
    let lower = text.trim().to_lowercase();
    let name = lower.strip_prefix("lts/").unwrap_or(&lower);
    match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, version)) => (*version).to_owned(),
        None if name == "*" || name == "lts" => "*".to_owned(),
        None => text.to_owned(),
    }
}

fn start(source: &Source, package: &Package) -> Option<String> {
    if let Some(script) = package.script("start") {
        // Without npm in between, signals reach the application and it needs 50 MB less.
        let plain = package.script("prestart").is_none() && package.script("poststart").is_none();
        return Some(if plain { script.to_owned() } else { "npm start".to_owned() });
    }
    let main = package.text("/main").map(|main| main.trim_start_matches("./")).filter(|main| source.has(main));
    let usual = ["server.js", "index.js", "app.js", "main.js", "server.mjs", "index.mjs"];
    let file = main.or_else(|| usual.into_iter().find(|file| source.has(file)))?;
    let plain = file.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/-".contains(&b));
    plain.then(|| format!("node {file}"))
}

//! Files that are served as they are, or that a tool of Node.js makes.

use crds::runtime::Language;
use node_protocol::BuildTask;

use super::nodejs::{Package, install_and_build};
use super::{Output, Recipe, Step, choose, start_command};
use crate::build::failure::Failure;
use crate::build::source::Source;

/// Files that say: this is a site.
pub(super) const MARKS: &[&str] = &["index.html", "public/index.html", "dist/index.html", "index.htm"];

/// Tools that make a site, and where they put it.
const TOOLS: &[(&str, &str)] = &[
    ("react-scripts", "build"),
    ("@docusaurus/core", "build"),
    ("gatsby", "public"),
    ("@11ty/eleventy", "_site"),
    ("vitepress", ".vitepress/dist"),
    ("@vue/cli-service", "dist"),
    ("parcel", "dist"),
    ("vite", "dist"),
];

/// Packages whose programs answer requests themselves.
const SERVERS: &[&str] = &[
    "express",
    "fastify",
    "koa",
    "hapi",
    "@hapi/hapi",
    "@nestjs/core",
    "next",
    "nuxt",
    "@sveltejs/kit",
    "@remix-run/serve",
    "@react-router/serve",
    "hono",
    "polka",
    "restify",
    "@adonisjs/core",
    "@feathersjs/express",
];

/// Whether a project of Node.js makes a site and has no server of its own.
pub(super) fn is_site(source: &Source, task: &BuildTask) -> bool {
    let Ok(package) = Package::read(source) else { return false };
    let serves = SERVERS.iter().any(|server| package.depends_on(server))
        || source.procfile().is_some()
        || task.start_command.is_some();
    // The start script of these tools is a server for the developer's own machine.
    let starts = package.script("start").is_some_and(|script| {
        ![
            "react-scripts start",
            "vite",
            "vue-cli-service serve",
            "gatsby develop",
            "parcel",
            "docusaurus start",
            "eleventy",
        ]
        .iter()
        .any(|tool| script.contains(tool))
    });
    let makes = package.script("build").is_some() && (tool(&package).is_some() || task.options.output.is_some());
    let only_files = package.script("build").is_none()
        && package.script("start").is_none()
        && source.has("index.html")
        && !["server.js", "index.js", "app.js"].iter().any(|file| source.has(file));
    !serves && !starts && (makes || only_files)
}

fn tool(package: &Package) -> Option<(&'static str, &'static str)> {
    TOOLS.iter().find(|(tool, _)| package.depends_on(tool)).copied()
}

/// How a site becomes an image.
pub(super) fn recipe(source: &Source, task: &BuildTask) -> Result<Recipe, Failure> {
    let (choice, found) = choose(task, Language::Static, None, |_| true)?;
    let preset = choice.presets.start.as_ref();
    // A Procfile in a folder of files is for another platform.
    let start = start_command(task, &Source::default(), preset, || None, "set spec.presets.start of the Runtime")?;
    let mut recipe = Recipe::new(choice, start, task)?;
    recipe.found = found;
    let package = Package::read(source)?;
    let builds = package.script("build").is_some() || task.options.command.is_some() || choice.presets.build.is_some();
    let output =
        task.options.output.as_deref().map(|output| output.trim_start_matches("./").trim_end_matches('/').to_owned());
    if builds {
        let made = output.or_else(|| tool(&package).map(|(_, folder)| folder.to_owned()));
        let folder = made.ok_or_else(|| {
            Failure::new("RuntimeNotDetected", "the site is built, and nothing says into which folder")
                .hint("set spec.build.output, for example to dist")
        })?;
        recipe.found.push(format!("the site is what the build puts into {folder}"));
        let presets = (choice.presets.install.clone(), choice.presets.build.clone());
        install_and_build(&mut recipe, source, task, &package, presets.0, presets.1, false)?;
        recipe.output = Output::Folder(folder);
        return Ok(recipe);
    }
    let folder = output.unwrap_or_else(|| {
        let folders =
            [(".", "index.html"), (".", "index.htm"), ("public", "public/index.html"), ("dist", "dist/index.html")];
        let found = folders.iter().find(|(_, file)| source.has(file));
        found.map_or(".", |(folder, _)| folder).to_owned()
    });
    if folder != "." && !source.has_folder(&folder) {
        return Err(Failure::new("RuntimeNotDetected", format!("there is no folder {folder}"))
            .hint("check spec.build.output, or set spec.build.command if a command makes it"));
    }
    recipe.found.push(format!("files of {}", if folder == "." { "the whole folder" } else { &folder }));
    recipe.steps.push(Step::CopyAll);
    recipe.output = Output::Folder(folder);
    Ok(recipe)
}

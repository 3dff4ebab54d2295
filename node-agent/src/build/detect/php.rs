//! PHP: composer.json, or pages of their own.

use crds::runtime::Language;
use node_protocol::BuildTask;
use serde_json::Value;

use super::{Recipe, Step, choose, start_command};
use crate::build::failure::Failure;
use crate::build::source::Source;
use crate::build::versions::{Notation, Wanted};

/// How an application of PHP becomes an image.
pub(super) fn recipe(source: &Source, task: &BuildTask) -> Result<Recipe, Failure> {
    let composer = match source.json("composer.json") {
        None => Value::Null,
        Some(Ok(composer)) => composer,
        Some(Err(problem)) => {
            return Err(Failure::new("CommandFailed", format!("composer.json: {problem}"))
                .hint("correct composer.json: it must be JSON"));
        }
    };
    let (choice, found) = choose(task, Language::Php, wanted(source, &composer).as_ref(), |_| true)?;
    let hint = "set spec.start.command, or spec.presets.start of the Runtime";
    let start = start_command(task, source, choice.presets.start.as_ref(), || None, hint)?;
    let mut recipe = Recipe::new(choice, start, task)?;
    recipe.found = found;
    recipe.steps.push(Step::CopyAll);
    let needs = ["require", "require-dev", "autoload"];
    let installs = needs.iter().any(|key| composer[*key].as_object().is_some_and(|map| !map.is_empty()));
    let install = "composer install --no-dev --prefer-dist --optimize-autoloader --no-progress";
    recipe.run(choice.presets.install.clone().or_else(|| installs.then(|| install.to_owned())));
    recipe.run(task.options.command.clone().or_else(|| choice.presets.build.clone()));
    if let Some(root) = document_root(source) {
        recipe.found.push(format!("pages are served from {root}/"));
        recipe.env.insert("DOCUMENT_ROOT".to_owned(), format!("/app/{root}"));
    }
    Ok(recipe)
}

fn wanted(source: &Source, composer: &Value) -> Option<Wanted> {
    let of = |text: Option<&str>, file, notation| text.and_then(|text| Wanted::parse(text, file, notation));
    of(source.line(".php-version"), ".php-version", Notation::Npm)
        .or_else(|| of(source.tool_version(&["php"]), ".tool-versions", Notation::Npm))
        .or_else(|| of(composer["require"]["php"].as_str(), "composer.json", Notation::Composer))
}

/// The folder whose pages are served, if it is not the usual `public`, which the image finds itself.
fn document_root(source: &Source) -> Option<&'static str> {
    if source.has("public/index.php") || source.has("index.php") {
        return None;
    }
    ["web", "webroot", "public_html", "htdocs", "www", "docroot"]
        .into_iter()
        .find(|folder| source.has(&format!("{folder}/index.php")))
}

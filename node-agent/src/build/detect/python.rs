//! Python: requirements.txt, Pipfile or pyproject.toml.

use crds::runtime::Language;
use node_protocol::BuildTask;

use super::{Recipe, Step, choose, start_command};
use crate::build::failure::Failure;
use crate::build::source::Source;
use crate::build::versions::{Notation, Wanted};

/// Files that say: this is Python.
pub(super) const MARKS: &[&str] = &[
    "requirements.txt",
    "pyproject.toml",
    "Pipfile",
    "Pipfile.lock",
    "manage.py",
    "setup.py",
    "uv.lock",
    "poetry.lock",
];
/// Programs that are Python's if nothing else says what a source is.
pub(super) const PROGRAMS: &[&str] = &["app.py", "main.py", "wsgi.py", "asgi.py", "server.py"];

/// How an application of Python becomes an image.
pub(super) fn recipe(source: &Source, task: &BuildTask) -> Result<Recipe, Failure> {
    let project = Project::read(source)?;
    let (choice, found) = choose(task, Language::Python, project.wanted(source).as_ref(), |_| true)?;
    let needs = project.needs(source);
    let start = start_command(
        task,
        source,
        choice.presets.start.as_ref(),
        || start(source, &needs),
        "add gunicorn or uvicorn to the requirements with an application object in app.py or main.py, add a Procfile with a \
         `web:` line, or set spec.start.command",
    )?;
    let mut recipe = Recipe::new(choice, start, task)?;
    recipe.found = found;
    recipe.run(Some("python3 -m venv /app/.venv".to_owned()));
    match choice.presets.install.clone() {
        Some(command) => recipe.steps.extend([Step::CopyAll, Step::Run(command)]),
        None => install(&mut recipe, source, &project),
    }
    let collect = source.has("manage.py") && has_static_root(source);
    let collect = collect.then(|| "python manage.py collectstatic --noinput".to_owned());
    recipe.run(task.options.command.clone().or_else(|| choice.presets.build.clone()).or(collect));
    if source.has_folder("src") && !source.has("src/__init__.py") {
        recipe.env.insert("PYTHONPATH".to_owned(), "/app:/app/src".to_owned());
    }
    Ok(recipe)
}

/// The step that installs, with the files that it reads before it, and the rest of the source behind it.
fn install(recipe: &mut Recipe, source: &Source, project: &Project) {
    let copied = |files: &[&str]| {
        Step::Copy(files.iter().filter(|file| source.has(file)).map(|file| (*file).to_owned()).collect())
    };
    // Tools that are needed to install and not to run lie outside what the image gets.
    let tool = |name: &str, command: &str| {
        format!("python3 -m venv /tmp/tool && /tmp/tool/bin/pip install --quiet {name} && {command}")
    };
    let (files, command) = if source.has("uv.lock") {
        let command = "UV_PROJECT_ENVIRONMENT=/app/.venv /tmp/tool/bin/uv sync --frozen --no-dev --no-install-project";
        (copied(&["pyproject.toml", "uv.lock"]), tool("uv", command))
    } else if source.has("poetry.lock") || project.is_poetry() {
        let command = "/tmp/tool/bin/poetry install --only main --no-root --no-interaction";
        (copied(&["pyproject.toml", "poetry.lock", "poetry.toml"]), tool("poetry", command))
    } else if source.has("requirements.txt") {
        let text = source.text("requirements.txt").unwrap_or_default();
        // A list that names files or folders of the source needs them to be there.
        let local = text.lines().map(str::trim).any(|line| {
            ["-r", "-c", "-e", ".", "/", "--requirement", "--constraint", "--editable", "file:", "--find-links", "-f"]
                .iter()
                .any(|start| line.starts_with(start))
        });
        let files = if local { Step::CopyAll } else { copied(&["requirements.txt"]) };
        (files, "pip install --requirement requirements.txt".to_owned())
    } else if source.has("Pipfile.lock") {
        (copied(&["Pipfile", "Pipfile.lock"]), "pipenv sync".to_owned())
    } else if source.has("Pipfile") {
        (copied(&["Pipfile"]), "pipenv install --skip-lock".to_owned())
    } else if let Some(list) = project.dependencies() {
        let mut text = list.join("\n");
        text.push('\n');
        recipe.found.push(format!("pyproject.toml: {} dependencies", list.len()));
        let name = "berth-requirements.txt";
        (Step::Write { name, text }, format!("pip install --requirement {name}"))
    } else if source.has("setup.py") {
        (Step::CopyAll, "pip install .".to_owned())
    } else {
        recipe.steps.push(Step::CopyAll);
        return;
    };
    recipe.found.push(format!("installed by `{}`", command.rsplit(" && ").next().unwrap_or(&command)));
    let whole = files == Step::CopyAll;
    recipe.steps.extend([files, Step::Run(command)]);
    if !whole {
        recipe.steps.push(Step::CopyAll);
    }
}

/// What pyproject.toml and Pipfile say.
struct Project {
    pyproject: toml::Table,
    pipfile: toml::Table,
}

impl Project {
    fn read(source: &Source) -> Result<Self, Failure> {
        let read = |file: &str| -> Result<toml::Table, Failure> {
            source.text(file).unwrap_or_default().parse().map_err(|problem: toml::de::Error| {
                Failure::new("CommandFailed", format!("{file}: {}", problem.message()))
                    .hint(format!("correct {file}: it must be TOML"))
            })
        };
        Ok(Self { pyproject: read("pyproject.toml")?, pipfile: read("Pipfile")? })
    }

    fn poetry(&self) -> Option<&toml::Value> {
        self.pyproject.get("tool")?.get("poetry")
    }

    /// Whether only Poetry knows what it needs.
    fn is_poetry(&self) -> bool {
        self.dependencies().is_none() && self.poetry().is_some_and(|poetry| poetry.get("dependencies").is_some())
    }

    fn dependencies(&self) -> Option<Vec<String>> {
        let list = self.pyproject.get("project")?.get("dependencies")?.as_array()?;
        Some(list.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect())
    }

    /// The version of Python that is asked for, by the file that says it most precisely.
    fn wanted(&self, source: &Source) -> Option<Wanted> {
        let of = |text: Option<&str>, file| text.and_then(|text| Wanted::parse(text, file, Notation::Python));
        let runtime = source.line("runtime.txt").and_then(|line| line.strip_prefix("python-"));
        let requires = self.pyproject.get("project").and_then(|project| project.get("requires-python")?.as_str());
        let poetry = self.poetry().and_then(|poetry| poetry.get("dependencies")?.get("python")?.as_str());
        let pipfile = self.pipfile.get("requires").and_then(|requires| {
            requires.get("python_full_version").or_else(|| requires.get("python_version"))?.as_str()
        });
        of(source.line(".python-version"), ".python-version")
            .or_else(|| of(runtime, "runtime.txt"))
            .or_else(|| of(source.tool_version(&["python"]), ".tool-versions"))
            .or_else(|| of(pipfile, "Pipfile"))
            .or_else(|| of(requires, "pyproject.toml"))
            .or_else(|| of(poetry, "pyproject.toml (poetry)"))
    }

    /// The names of the packages that it needs itself, in lower case.
    fn needs(&self, source: &Source) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut take = |line: &str| {
            let name: String =
                line.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
            names.push(name.to_lowercase().replace('_', "-"));
        };
        source
            .paths()
            .filter(|path| path.contains("requirements") && path.strip_suffix(".txt").is_some())
            .filter_map(|path| source.text(path))
            .flat_map(str::lines)
            .for_each(&mut take);
        self.dependencies().unwrap_or_default().iter().for_each(|line| take(line));
        let tables = [self.poetry().and_then(|poetry| poetry.get("dependencies")), self.pipfile.get("packages")];
        for table in tables.into_iter().flatten().filter_map(toml::Value::as_table) {
            table.keys().for_each(|name| take(name));
        }
        names
    }
}

/// Whether Django knows a folder to collect static files in; without one the command fails.
fn has_static_root(source: &Source) -> bool {
    source.paths().filter(|path| path.ends_with("settings.py") || path.contains("settings/")).any(|path| {
        source.text(path).is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with("STATIC_ROOT")))
    })
}

/// How a server is called: `$PORT` is put in by the shell of the container.
fn start(source: &Source, needs: &[String]) -> Option<String> {
    let has = |name: &str| needs.iter().any(|need| need == name);
    let gunicorn = |target: &str| format!("exec gunicorn --bind 0.0.0.0:$PORT {target}");
    let uvicorn = |target: &str| format!("exec uvicorn --host 0.0.0.0 --port $PORT {target}");
    if source.has("manage.py") {
        let project = |file: &str| {
            let end = format!("/{file}.py");
            let path = source.paths().find(|path| path.ends_with(&end) && path.matches('/').count() == 1)?;
            let folder = path.strip_suffix(&end).filter(|folder| is_module(folder))?;
            Some(format!("{folder}.{file}:application"))
        };
        return match (project("wsgi"), project("asgi")) {
            (Some(wsgi), _) if has("gunicorn") => Some(gunicorn(&wsgi)),
            (_, Some(asgi)) if has("uvicorn") => Some(uvicorn(&asgi)),
            (_, Some(asgi)) if has("daphne") => Some(format!("exec daphne -b 0.0.0.0 -p $PORT {asgi}")),
            _ => None,
        };
    }
    let found = application(source);
    if let Some((target, asynchronous)) = &found {
        if *asynchronous && has("uvicorn") {
            return Some(uvicorn(target));
        }
        if *asynchronous && has("hypercorn") {
            return Some(format!("exec hypercorn --bind 0.0.0.0:$PORT {target}"));
        }
        if *asynchronous && needs.iter().any(|need| need == "fastapi") && has("fastapi-cli") {
            return Some(format!("exec fastapi run --host 0.0.0.0 --port $PORT {}", target.split(':').next()?));
        }
        if !*asynchronous && has("gunicorn") {
            return Some(gunicorn(target));
        }
        if !*asynchronous && has("waitress") {
            return Some(format!("exec waitress-serve --listen=0.0.0.0:$PORT {target}"));
        }
    }
    // A program that starts its own server.
    let usual = ["main.py", "app.py", "server.py", "run.py"];
    let own = usual.into_iter().find(|file| source.text(file).is_some_and(|text| text.contains("__main__")))?;
    Some(format!("python {own}"))
}

/// Classes whose objects are applications, and whether they are asynchronous.
const CLASSES: &[(&str, bool)] = &[
    ("Flask(", false),
    ("flask.Flask(", false),
    ("Bottle(", false),
    ("falcon.App(", false),
    ("falcon.API(", false),
    ("Dash(", false),
    ("get_wsgi_application(", false),
    ("create_app(", false),
    ("FastAPI(", true),
    ("fastapi.FastAPI(", true),
    ("Starlette(", true),
    ("Litestar(", true),
    ("Quart(", true),
    ("Sanic(", true),
    ("falcon.asgi.App(", true),
    ("get_asgi_application(", true),
    ("ProtocolTypeRouter(", true),
];

/// The application's object, as `module:name`, and whether it is asynchronous.
fn application(source: &Source) -> Option<(String, bool)> {
    let usual = ["app.py", "main.py", "wsgi.py", "asgi.py", "server.py", "application.py", "api.py", "run.py"];
    let packages = ["app/main.py", "app/__init__.py", "app/app.py", "src/main.py", "src/app.py", "api/main.py"];
    let inside = source.paths().filter(|path| path.ends_with("/__init__.py") && path.matches('/').count() == 1);
    let candidates = usual.into_iter().chain(packages).chain(inside);
    candidates.filter(|path| source.has(path)).find_map(|path| {
        let (name, asynchronous) = source.text(path)?.lines().find_map(object)?;
        let module = path.strip_suffix("/__init__.py").or_else(|| path.strip_suffix(".py"))?;
        let module = module.strip_prefix("src/").filter(|_| !source.has("src/__init__.py")).unwrap_or(module);
        let module = module.replace('/', ".");
        is_module(&module).then(|| (format!("{module}:{name}"), asynchronous))
    })
}

/// `app = Flask(__name__)`, at the beginning of a line, or the usual name of a WSGI application given another value.
fn object(line: &str) -> Option<(String, bool)> {
    let (name, value) = line.split_once('=')?;
    let name = name.split(':').next()?.trim_end();
    let (value, identifier) = (value.trim_start(), |c: char| c.is_ascii_alphanumeric() || c == '_');
    if line.starts_with(char::is_whitespace) || name.is_empty() || !name.chars().all(identifier) {
        return None;
    }
    let class = CLASSES.iter().find(|(class, _)| value.starts_with(class));
    class.map(|(_, asynchronous)| (name.to_owned(), *asynchronous))
}

fn is_module(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'.')
}

use crds::application::BuildOptions;
use crds::runtime::Presets;
use node_protocol::GitAccess;

use super::*;
use crate::build::render::dockerfile as rendered;

fn task() -> BuildTask {
    let choice = |name: &str, language, version: &str, start: Option<&str>| RuntimeChoice {
        name: name.to_owned(),
        language,
        version: version.to_owned(),
        build_image: Some(format!("build/{name}")),
        run_image: Some(format!("run/{name}")),
        presets: Presets { start: start.map(str::to_owned), ..Presets::default() },
    };
    BuildTask {
        uid: "u".to_owned(),
        namespace: "acme".to_owned(),
        name: "web-1".to_owned(),
        application: "web".to_owned(),
        cancel: false,
        git: GitAccess {
            url: "https://git.example.com/a.git".to_owned(),
            branch: "main".to_owned(),
            commit: None,
            path: ".".to_owned(),
            username: None,
            password: None,
            ssh_private_key: None,
            known_hosts: None,
        },
        runtimes: vec![
            choice("nodejs-18", Language::NodeJs, "18", None),
            choice("nodejs-20", Language::NodeJs, "20", None),
            choice("nodejs-22", Language::NodeJs, "22", None),
            choice("nodejs-23", Language::NodeJs, "23", None),
            choice("python-3.11", Language::Python, "3.11", None),
            choice("php-8.2", Language::Php, "8.2", Some("berth-php")),
            choice("static", Language::Static, "", Some("berth-static")),
            RuntimeChoice {
                run_image: None,
                build_image: None,
                ..choice("dockerfile", Language::Dockerfile, "", None)
            },
        ],
        detect: true,
        options: BuildOptions::default(),
        start_command: None,
        port: None,
        image: "berth/acme/web-1:latest".to_owned(),
        cpu_millis: 1000,
        memory_bytes: 1 << 30,
        timeout_milliseconds: 1000,
    }
}

/// What comes of some files, in a line: runtime, commands, what the image gets, start.
fn check(files: &[(&str, &str)]) -> String {
    check_task(files, &task())
}

fn check_task(files: &[(&str, &str)], task: &BuildTask) -> String {
    match plan(&Source::of(files), task) {
        Err(failure) => {
            assert!(failure.hint.is_some(), "{failure:?} says what to do");
            format!("{}: {}", failure.reason, failure.message)
        }
        Ok(Plan::Dockerfile { runtime, path }) => format!("{runtime} | {path}"),
        Ok(Plan::Recipe(recipe)) => {
            let steps: Vec<String> = recipe
                .steps
                .iter()
                .map(|step| match step {
                    Step::Copy(files) => format!("copy {}", files.join(" ")),
                    Step::Write { name, text } => format!("write {name} {text:?}"),
                    Step::CopyAll => "copy all".to_owned(),
                    Step::Run(command) => command.clone(),
                })
                .collect();
            let output = match &recipe.output {
                Output::Application => String::new(),
                Output::Folder(folder) => format!(" > {folder}"),
            };
            format!("{} | {}{output} | {}", recipe.runtime, steps.join("; "), recipe.start)
        }
    }
}

#[test]
fn nodejs() {
    for (files, expected) in [
        (
            &[
                ("package.json", r#"{"scripts":{"start":"node server.js"},"dependencies":{"x":"1"}}"#),
                ("package-lock.json", "{}"),
            ][..],
            "nodejs-22 | copy package.json package-lock.json; npm ci; copy all | node server.js",
        ),
        (
            &[
                (
                    "package.json",
                    r#"{"scripts":{"start":"next start","build":"next build"},"dependencies":{"next":"1"},"devDependencies":{"t":"1"}}"#,
                ),
                ("yarn.lock", ""),
                (".nvmrc", "lts/iron\n"),
            ],
            "nodejs-20 | copy package.json yarn.lock; yarn install --frozen-lockfile; copy all; yarn run build; \
             yarn install --frozen-lockfile --production --ignore-scripts --prefer-offline | next start",
        ),
        (
            &[
                ("package.json", r#"{"main":"./lib/main.js","dependencies":{"x":"1"},"engines":{"node":">=18 <19"}}"#),
                ("pnpm-lock.yaml", ""),
                ("lib/main.js", ""),
            ],
            "nodejs-18 | copy package.json pnpm-lock.yaml; pnpm --config.manage-package-manager-versions=false install --frozen-lockfile; copy all | node lib/main.js",
        ),
        (&[("package.json", "{}"), ("server.js", "")], "nodejs-22 | copy all | node server.js"),
        (&[("server.js", "")], "nodejs-22 | copy all | node server.js"),
        (
            &[(
                "package.json",
                r#"{"scripts":{"start":"x","prestart":"y","postinstall":"z"},"dependencies":{"a":"1"}}"#,
            )],
            "nodejs-22 | copy all; npm install | npm start",
        ),
        (
            &[
                ("package.json", r#"{"scripts":{"start":"x"},"workspaces":["a"]}"#),
                ("package-lock.json", "{}"),
                ("Procfile", "worker: y\nweb: node web.js\n"),
            ],
            "nodejs-22 | copy all; npm ci | node web.js",
        ),
        (
            &[("package.json", "{}"), (".tool-versions", "python 3.11\nnodejs 18.2.0\n"), ("index.js", "")],
            "nodejs-18 | copy all | node index.js",
        ),
        (
            &[("package.json", r#"{"engines":{"node":"16.x"},"scripts":{"start":"x"}}"#)],
            "RuntimeNotDetected: package.json (engines) asks for Node.js 16.x; there are 18, 20, 22, 23",
        ),
        (
            &[("package.json", r#"{"dependencies":{"x":"1"}}"#)],
            "StartCommandNotFound: nothing says how the application is started",
        ),
        (&[("package.json", "{")], "CommandFailed: package.json: EOF while parsing an object at line 1 column 1"),
        (
            &[("package.json", r#"{"scripts":{"start":"node 'x"}}"#)],
            "StartCommandNotFound: the start command \"node 'x\" cannot be read",
        ),
        (
            &[("package.json", r#"{"packageManager":"yarn@4.1.0","scripts":{"start":"x"}}"#), ("yarn.lock", "")],
            "CommandFailed: this project uses Yarn 2 or later, whose program is not in the repository",
        ),
        (
            &[
                ("package.json", r#"{"scripts":{"start":"x"},"dependencies":{"a":"1"}}"#),
                ("yarn.lock", ""),
                (".yarnrc.yml", "yarnPath: .yarn/releases/yarn-4.cjs"),
                (".yarn/releases/yarn-4.cjs", ""),
            ],
            "nodejs-22 | copy all; yarn install --immutable | x",
        ),
    ] {
        assert_eq!(check(files), expected, "{files:?}");
    }
}

#[test]
fn python() {
    let venv = "python-3.11 | python3 -m venv /app/.venv; ";
    let pip = "copy requirements.txt; pip install --requirement requirements.txt; copy all";
    for (files, expected) in [
        (
            &[
                ("requirements.txt", "Flask==3\ngunicorn>=20\n"),
                ("app.py", "from flask import Flask\napp = Flask(__name__)\n"),
            ][..],
            format!("{venv}{pip} | exec gunicorn --bind 0.0.0.0:$PORT app:app"),
        ),
        (
            &[
                ("requirements.txt", "fastapi\nuvicorn[standard]\n"),
                ("app/main.py", "api: FastAPI = FastAPI(title='x')\n"),
                (".python-version", "3.11.4\n"),
            ],
            format!("{venv}{pip} | exec uvicorn --host 0.0.0.0 --port $PORT app.main:api"),
        ),
        (
            &[
                ("requirements.txt", "django\ngunicorn\n"),
                ("manage.py", ""),
                ("shop/wsgi.py", ""),
                ("shop/settings.py", "STATIC_ROOT = 'x'\n"),
            ],
            format!(
                "{venv}{pip}; python manage.py collectstatic --noinput | exec gunicorn --bind 0.0.0.0:$PORT shop.wsgi:application"
            ),
        ),
        (
            &[
                ("Pipfile", "[packages]\nflask='*'\nwaitress='*'\n[requires]\npython_version='3.11'\n"),
                ("Pipfile.lock", "{}"),
                ("main.py", "web = Flask('x')\n"),
            ],
            format!(
                "{venv}copy Pipfile Pipfile.lock; pipenv sync; copy all | exec waitress-serve --listen=0.0.0.0:$PORT main:web"
            ),
        ),
        (
            &[
                (
                    "pyproject.toml",
                    "[project]\nname='x'\nrequires-python='>=3.10'\ndependencies=['flask>=3','gunicorn']\n",
                ),
                ("wsgi.py", "application = create_app()\n"),
            ],
            format!(
                "{venv}write berth-requirements.txt \"flask>=3\\ngunicorn\\n\"; pip install --requirement berth-requirements.txt; copy all | exec gunicorn --bind 0.0.0.0:$PORT wsgi:application"
            ),
        ),
        (
            &[
                ("pyproject.toml", "[tool.poetry.dependencies]\npython='^3.11'\nuvicorn='*'\n"),
                ("poetry.lock", ""),
                ("asgi.py", "app = Starlette()\n"),
            ],
            format!(
                "{venv}copy pyproject.toml poetry.lock; python3 -m venv /tmp/tool && /tmp/tool/bin/pip install --quiet poetry && /tmp/tool/bin/poetry install --only main --no-root --no-interaction; copy all | exec uvicorn --host 0.0.0.0 --port $PORT asgi:app"
            ),
        ),
        (
            &[
                ("requirements.txt", "-r base.txt\nflask\n"),
                ("base.txt", ""),
                ("main.py", "if __name__ == '__main__':\n    run()\n"),
            ],
            format!("{venv}copy all; pip install --requirement requirements.txt | python main.py"),
        ),
        (&[("main.py", "print(__name__ == '__main__')")], format!("{venv}copy all | python main.py")),
        (
            &[("requirements.txt", "flask\n"), ("app.py", "app = Flask(__name__)\n")],
            "StartCommandNotFound: nothing says how the application is started".to_owned(),
        ),
        (
            &[("requirements.txt", ""), ("runtime.txt", "python-3.9.1\n")],
            "RuntimeNotDetected: runtime.txt asks for Python 3.9.1; there are 3.11".to_owned(),
        ),
        (&[("pyproject.toml", "[project\n")], "CommandFailed: pyproject.toml: unclosed table, expected `]`".to_owned()),
    ] {
        assert_eq!(check(files), expected, "{files:?}");
    }
}

#[test]
fn php_and_sites() {
    let install = "composer install --no-dev --prefer-dist --optimize-autoloader --no-progress";
    let vite = r#"{"scripts":{"build":"vite build","dev":"vite"},"devDependencies":{"vite":"5"}}"#;
    for (files, expected) in [
        (
            &[("composer.json", r#"{"require":{"php":"^8.1"}}"#), ("public/index.php", "")][..],
            format!("php-8.2 | copy all; {install} | berth-php"),
        ),
        (&[("index.php", "<?php")], "php-8.2 | copy all | berth-php".to_owned()),
        (
            &[("composer.json", "{}"), ("package.json", "{}"), ("index.php", "")],
            "php-8.2 | copy all | berth-php".to_owned(),
        ),
        (
            &[("composer.json", r#"{"require":{"php":"^7.4"}}"#)],
            "RuntimeNotDetected: composer.json asks for PHP ^7.4; there are 8.2".to_owned(),
        ),
        (&[("index.html", ""), ("a.css", "")], "static | copy all > . | berth-static".to_owned()),
        (&[("public/index.html", ""), ("readme", "")], "static | copy all > public | berth-static".to_owned()),
        (
            &[("package.json", vite), ("package-lock.json", "{}"), ("index.html", "")],
            "static | copy package.json package-lock.json; npm ci; copy all; npm run build > dist | berth-static"
                .to_owned(),
        ),
        (
            &[(
                "package.json",
                r#"{"scripts":{"start":"react-scripts start","build":"react-scripts build"},"dependencies":{"react-scripts":"5"}}"#,
            )],
            "static | copy package.json; npm install; copy all; npm run build > build | berth-static".to_owned(),
        ),
        (
            &[(
                "package.json",
                r#"{"scripts":{"start":"node s.js","build":"vite build"},"dependencies":{"express":"4","vite":"5"}}"#,
            )],
            "nodejs-22 | copy package.json; npm install; copy all; npm run build | node s.js".to_owned(),
        ),
        (&[("Dockerfile", "FROM x"), ("package.json", "{}")], "dockerfile | Dockerfile".to_owned()),
        (
            &[("notes", "")],
            "RuntimeNotDetected: nothing in the source says what it is written in (files: notes)".to_owned(),
        ),
        (&[], "RuntimeNotDetected: there are no files in the application's folder".to_owned()),
    ] {
        assert_eq!(check(files), expected, "{files:?}");
    }
}

#[test]
fn what_the_application_says_comes_first() {
    let files = &[("package.json", r#"{"scripts":{"start":"x","build":"y"}}"#), ("Procfile", "web: p")];
    let mut task = task();
    task.start_command = Some("node own.js".to_owned());
    task.options.command = Some("make".to_owned());
    assert_eq!(check_task(files, &task), "nodejs-22 | copy all; make | node own.js");
    task.detect = false;
    task.runtimes.retain(|choice| choice.name == "nodejs-18");
    assert_eq!(check_task(files, &task), "nodejs-18 | copy all; make | node own.js");
    let pinned = &[("package.json", r#"{"engines":{"node":"22"}}"#)];
    assert_eq!(check_task(pinned, &task), "nodejs-18 | copy all; make | node own.js", "a chosen runtime is used");

    let mut site = super::tests::task();
    site.options.output = Some("./web/".to_owned());
    assert_eq!(check_task(&[("web/index.html", "")], &site), "static | copy all > web | berth-static");
    assert_eq!(check_task(&[("x", "")], &site), "RuntimeNotDetected: there is no folder web");
    let mut docker = super::tests::task();
    docker.options.dockerfile = Some("docker/web.Dockerfile".to_owned());
    assert_eq!(
        check_task(&[("docker/web.Dockerfile", ""), ("package.json", "{}")], &docker),
        "dockerfile | docker/web.Dockerfile"
    );
    docker.detect = false;
    docker.runtimes.retain(|choice| choice.language == Language::Dockerfile);
    assert_eq!(check_task(&[("x", "")], &docker), "DockerfileRefused: there is no file docker/web.Dockerfile");
}

#[test]
fn dockerfiles_read_like_this() {
    let show = |files: &[(&str, &str)]| match plan(&Source::of(files), &task()).unwrap() {
        Plan::Recipe(recipe) => rendered(&recipe, "acme/web", true),
        Plan::Dockerfile { .. } => panic!("a recipe"),
    };
    let start =
        r#"{"scripts":{"start":"node s.js","build":"tsc"},"dependencies":{"x":"1"},"devDependencies":{"y":"1"}}"#;
    insta::assert_snapshot!("nodejs", show(&[("package.json", start), ("package-lock.json", "{}")]));
    insta::assert_snapshot!(
        "python",
        show(&[("requirements.txt", "flask\ngunicorn\n"), ("app.py", "app = Flask('x')")])
    );
    insta::assert_snapshot!("php", show(&[("composer.json", r#"{"require":{"a/b":"1"}}"#), ("web/index.php", "")]));
    insta::assert_snapshot!("static", show(&[("index.html", "")]));
}

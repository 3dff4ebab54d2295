//! The documentation names what there is: a field that nobody is told of is a field that nobody uses.

use serde_json::Value;

fn document(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Paths of the fields that hold values, as the documentation writes them: `env[].value`.
fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            leaves(schema, &path, found);
        }
    } else if schema["items"].is_object() {
        leaves(&schema["items"], &format!("{path}[]"), found);
    } else {
        found.push(path.to_owned());
    }
}

#[test]
fn every_field_of_an_application_is_described() {
    use kube::CustomResourceExt;
    let crd = serde_json::to_value(crds::Application::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut fields = Vec::new();
    leaves(schema, "", &mut fields);
    assert!(fields.len() > 25, "{fields:?}");
    let text = document("applications.md");
    for field in fields {
        // `build.args[].name`, `.value`: the second of a pair is named by its last word.
        let (parent, last) = field.rsplit_once('.').unwrap_or(("", &field));
        let described = text.lines().filter(|line| line.starts_with("| `")).any(|line| {
            line.contains(&format!("`{field}`"))
                || (line.contains(&format!("`{parent}.")) && line.contains(&format!("`.{last}`")))
        });
        assert!(described, "docs/applications.md does not describe spec.{field}");
    }
}

#[test]
fn every_option_of_server_and_agent_is_described() {
    let text = document("operating.md");
    for command in ["server", "agent"] {
        let mut program = crate::berth::program();
        program.args([command, "--help"]);
        let help = crate::berth::run(program, "").stdout;
        let options: Vec<&str> = help
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("--"))
            .filter(|option| !["help", "version"].contains(option))
            .collect();
        assert!(options.len() > 5, "{help}");
        for option in options {
            assert!(
                text.contains(&format!("--{option}")),
                "docs/operating.md does not describe berth {command} --{option}"
            );
        }
    }
}

#[test]
fn every_kind_is_described() {
    let text = document("kubernetes.md");
    for entry in crds::KINDS {
        let kind = (entry.crd)().spec.names.kind;
        assert!(text.contains(&kind), "docs/kubernetes.md does not name {kind}");
    }
}

#[test]
fn every_command_in_the_readme_is_there() {
    let text = document("../README.md");
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# berth ")).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let words = command.split(" #").next().unwrap_or_default().split_whitespace();
        let mut program = crate::berth::program();
        // What stands before is read first: a word that is not known is told before the help.
        program.args(words).arg("--help");
        let outcome = crate::berth::run(program, "");
        assert_eq!(outcome.code, Some(0), "README.md: berth {command}: {}", outcome.stderr);
    }
}

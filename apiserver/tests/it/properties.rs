//! The properties that the fuzzer looks into, with some thousand inputs at each run: bytes, and texts that are nearly right.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[path = "../../fuzz/src/properties.rs"]
mod targets;

const CASES: u32 = 512;

/// Values with the names and shapes that patches are about.
fn value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[a-c/~0-1\\\\\"é ]{0,4}".prop_map(Value::from),
        Just(json!("delete")),
    ];
    let name = prop_oneof![
        "[a-c]",
        Just("name".to_owned()),
        Just("metadata".to_owned()),
        Just("$patch".to_owned()),
        Just("$retainKeys".to_owned()),
        Just("$setElementOrder/a".to_owned()),
        Just("$deleteFromPrimitiveList/b".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = serde_json::Value> {
    value().prop_map(|value| if value.is_object() { value } else { serde_json::json!({"a": value}) })
}

fn operations() -> impl Strategy<Value = serde_json::Value> {
    let pointer = || "(/([a-c]|name|0|1|-|~0|~1|~|)){0,4}";
    let operation = (
        prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "x"]),
        pointer(),
        pointer(),
        value(),
    );
    let operation = operation
        .prop_map(|(op, path, from, value)| serde_json::json!({"op": op, "path": path, "from": from, "value": value}));
    prop::collection::vec(operation, 0..6).prop_map(serde_json::Value::from)
}

fn joined(object: &serde_json::Value, patch: &serde_json::Value) -> Vec<u8> {
    format!("{object}\0{patch}").into_bytes()
}

/// Inputs that reach behind the first check.
fn likely(name: &str) -> BoxedStrategy<Vec<u8>> {
    let text = |pattern: &'static str| pattern.prop_map(String::into_bytes).boxed();
    match name {
        "json_decode" => value().prop_map(|value| value.to_string().into_bytes()).boxed(),
        "yaml_decode" => prop_oneof![
            value().prop_map(|value| value.to_string().into_bytes()),
            text("([a-c]: |- |  |&a |\\*a|\\[|\\]|\\{|\\}|, |\n|<<: |1e9|0x1f|~|'|\"|\\||>|%|!!int |yes|é){0,30}"),
        ]
        .boxed(),
        "protobuf_decode" => {
            // Fields with small numbers and lengths: a tag, and what may follow it.
            let field =
                (1_u8..16, prop::sample::select(vec![0_u8, 1, 2, 5]), prop::collection::vec(any::<u8>(), 0..12));
            let field = field.prop_map(|(number, wire, mut bytes)| {
                let mut field = vec![number << 3 | wire];
                if wire == 2 {
                    field.push(u8::try_from(bytes.len()).unwrap());
                }
                field.append(&mut bytes);
                field
            });
            let nested = (prop::collection::vec(field, 0..6), 0..4).prop_map(|(fields, levels)| {
                let mut message = fields.concat();
                for _ in 0..levels {
                    let mut outer = vec![1 << 3 | 2, u8::try_from(message.len().min(127)).unwrap()];
                    outer.append(&mut message);
                    message = outer;
                }
                message
            });
            nested.boxed()
        }
        "json_patch" => (object(), operations()).prop_map(|(object, patch)| joined(&object, &patch)).boxed(),
        "merge_patch" | "strategic_patch" | "apply" => {
            (object(), object()).prop_map(|(object, patch)| joined(&object, &patch)).boxed()
        }
        "label_selector" => text("((a|b/c|in|notin)( in | notin |=|==|!=|>|<|!| |,)(\\(a,b\\)|\\(\\)|1|-1|x|,|)){0,4}"),
        "field_selector" => {
            text("((metadata.name|status.phase|a)(=|==|!=|,|)(a|\\\\,|\\\\=|\\\\\\\\|\\\\|é|)(,|)){0,4}")
        }
        "query" => text(
            "((limit|continue|resourceVersion|resourceVersionMatch|watch|sendInitialEvents|dryRun|force|%6c)(=|)(1|0|-1|Exact|NotOlderThan|All|%|%2|%C3%28|\\+|)&?){0,6}",
        ),
        "address" => {
            text("(/|api|apis|v1|watch|namespaces|secrets|a|\\.\\.|\\.|%2e|%2F|%|%zz|%C3|status|finalize){0,9}")
        }
        "page_token" => text("[a-zA-Z0-9_=/-]{0,40}"),
        other => panic!("how are likely inputs of {other} made?"),
    }
}

/// What the fuzzer begins with: inputs that are right, or wrong in one thing.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    // In one order, so that a failure comes again.
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// A seed of which some bytes are others.
fn nearly(name: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let seed = prop::sample::select(seeds(name));
    let change = (any::<prop::sample::Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..4));
    (seed, prop::collection::vec(change, 0..4)).prop_map(|(mut seed, changes)| {
        for (place, removed, added) in changes {
            let start = place.index(seed.len() + 1);
            let end = (start + removed).min(seed.len());
            seed.splice(start..end, added);
        }
        seed
    })
}

#[test]
fn whatever_is_sent_nothing_panics() {
    for (name, property) in targets::ALL {
        // A failure prints its input, which becomes a test of its own.
        let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
        let bytes = prop::collection::vec(any::<u8>(), 0..200);
        let mut runner = TestRunner::new(config);
        let inputs = prop_oneof![1 => bytes.boxed(), 3 => likely(name), 2 => nearly(name)];
        let outcome = runner.run(&inputs, |input| {
            property(&input);
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{name}: {failure}");
        }
    }
}

//! What selectors select, what they complain about, and that they are written as they are read.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[track_caller]
fn selects(selector: &str, yes: &[&str], no: &[&str]) {
    let parsed = LabelSelector::parse(selector).unwrap();
    for text in yes {
        assert!(parsed.matches(&labels(text)), "{selector} should select {text:?}");
    }
    for text in no {
        assert!(!parsed.matches(&labels(text)), "{selector} should not select {text:?}");
    }
}

#[test]
fn label_selectors_select() {
    selects("", &["", "a=1"], &[]);
    selects("a", &["a=1", "a="], &["", "b=1"]);
    selects("!a", &["", "b=1"], &["a=1"]);
    selects("a=1", &["a=1"], &["a=2", ""]);
    selects("a==1", &["a=1"], &["a=2", ""]);
    selects(" a = 1 , b ", &["a=1,b=2"], &["a=1"]);
    selects("a=", &["a="], &["a=1", ""]);
    selects("a!=1", &["a=2", ""], &["a=1"]);
    selects("a in (1,2)", &["a=1", "a=2"], &["a=3", ""]);
    selects("a in (,2)", &["a=", "a=2"], &["a=3", ""]);
    selects("a notin (1, 2)", &["a=3", ""], &["a=1"]);
    selects("a>5", &["a=6"], &["a=5", "a=x", ""]);
    selects("a<5,a>2", &["a=3"], &["a=5", "a=2"]);
    selects("example.com/tier in (gold),!beta", &["example.com/tier=gold"], &["example.com/tier=gold,beta=1"]);
    selects("in=notin", &["in=notin"], &["in=x"]);
}

#[test]
fn wrong_label_selectors_say_what_is_wrong() {
    let check = |selector: &str, message: &str| {
        let error = LabelSelector::parse(selector).unwrap_err();
        assert!(error.contains(message), "{selector}: {error}");
    };
    check("a in 1", "expected: '('");
    check("a in (1", "expected: ',' or ')'");
    check("a,", "expected: identifier after ','");
    check(",a", "found ',', expected: identifier");
    check("a=1=2", "expected: ',' or 'end of string'");
    check("!a=1", "expected: ',' or 'end of string'");
    check("a b", "expected: in, notin, =, ==, !=, >, <");
    check("a>x", "must be an integer");
    check("a=-x", "a valid label must be an empty string or consist of");
    check("-a", "name part must consist of");
    check("UPPER.example.com/x", "prefix part a lowercase RFC 1123 subdomain");
    check("a=(", "expected: identifier");
}

#[test]
fn field_selectors_select() {
    let object = json!({
        "metadata": {"name": "web", "namespace": "acme"}, "spec": {"running": true, "instances": 2},
        "source": {"component": "scheduler"}, "note": "a,b=c",
    });
    let check = |selector: &str, expected: bool| {
        assert_eq!(FieldSelector::parse(selector).unwrap().matches(&object), expected, "{selector}");
    };
    check("", true);
    check("metadata.name=web", true);
    check("metadata.name==web,metadata.namespace=acme", true);
    check("metadata.name!=web", false);
    check("metadata.name=web,metadata.name=web", true);
    check("spec.running=true,spec.instances=2", true);
    check("spec.absent=", true);
    check("spec.absent!=x", true);
    check("source=scheduler", true);
    check(r"note=a\,b\=c", true);
    check(r"note=a\,b", false);
    assert!(FieldSelector::parse("metadata.name").unwrap_err().contains("can't understand 'metadata.name'"));
    assert!(FieldSelector::parse(r"a=\x").unwrap_err().contains("invalid escape sequence"));
    assert_eq!(FieldSelector::parse("a=1,metadata.name=web").unwrap().name(), Some("web"));
    assert_eq!(FieldSelector::parse("metadata.name!=web").unwrap().name(), None);
}

#[test]
fn only_selectable_fields_are_taken() {
    let namespace = crate::core_kinds::namespace();
    let check = |selector: &str| FieldSelector::parse(selector).unwrap().check(&namespace);
    assert_eq!(check("metadata.name=a,status.phase=Active"), Ok(()));
    assert_eq!(check("spec.x=1"), Err("field label not supported: spec.x".to_owned()));
    // A cluster-scoped kind has no namespace to select by.
    assert_eq!(check("metadata.namespace=a"), Err("field label not supported: metadata.namespace".to_owned()));
}

fn key() -> impl Strategy<Value = String> {
    "([a-z0-9]{1,5}\\.[a-z]{2,3}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?"
}

fn label_value() -> impl Strategy<Value = String> {
    "([A-Za-z0-9]([-A-Za-z0-9_.]{0,8}[A-Za-z0-9])?)?"
}

fn operator() -> impl Strategy<Value = Operator> {
    let set = || proptest::collection::btree_set(label_value(), 1..4);
    prop_oneof![
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
        label_value().prop_map(Operator::Equals),
        label_value().prop_map(Operator::NotEquals),
        set().prop_map(Operator::In),
        set().prop_map(Operator::NotIn),
        any::<i64>().prop_map(Operator::GreaterThan),
        any::<i64>().prop_map(Operator::LessThan),
    ]
}

proptest! {
    #[test]
    fn a_label_selector_is_read_as_it_is_written(
        requirements in proptest::collection::vec((key(), operator()).prop_map(|(key, operator)| Requirement { key, operator }), 0..5)
    ) {
        let selector = LabelSelector { requirements };
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn a_field_selector_is_read_as_it_is_written(
        terms in proptest::collection::vec(("[a-z]{1,4}(\\.[a-z]{1,4}){0,2}", ".{0,8}", any::<bool>()), 0..4)
    ) {
        let terms = terms.into_iter().map(|(field, value, equal)| Term { field, value, equal }).collect();
        let selector = FieldSelector { terms };
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in ".{0,40}", odd in "[a-c!=,()<> \\\\innot]{0,20}") {
        for text in [&text, &odd] {
            if let Ok(selector) = LabelSelector::parse(text) {
                prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
            }
            if let Ok(selector) = FieldSelector::parse(text) {
                prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
            }
        }
    }
}

use serde_json::json;

use super::limits::Quota;
use super::{Amount, Usage};

fn usage(text: &str) -> Usage {
    let pairs = text.split(' ').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, amount)| (name.to_owned(), Amount::parse(amount).unwrap())).collect()
}

fn check(used: &str, old: &str, new: &str) -> String {
    let quota =
        json!({"spec": {"hard": {"memory": "2Gi", "cpu": 2, "count/widgets.example.dev": "3", "secrets": "1"}}});
    let exceeded = Quota::read("q", &quota).exceeded(&usage(used), &usage(old), &usage(new));
    exceeded.map_or_else(String::new, |exceeded| exceeded.to_string())
}

#[test]
fn what_is_too_much_is_said_as_kubernetes_says_it() {
    assert_eq!(check("cpu=1", "", "cpu=1 memory=2Gi"), "");
    assert_eq!(
        check("cpu=1500m memory=1Gi", "", "cpu=1 memory=1536Mi other=99"),
        "exceeded quota: q, requested: cpu=1,memory=1536Mi, used: cpu=1500m,memory=1Gi, limited: cpu=2,memory=2Gi"
    );
    assert_eq!(
        check("count/secrets=1", "", "count/secrets=1"),
        "exceeded quota: q, requested: secrets=1, used: secrets=1, limited: secrets=1"
    );
}

#[test]
fn a_change_is_measured_by_what_it_adds() {
    assert_eq!(check("cpu=2", "cpu=1", "cpu=1"), "", "nothing more is asked for");
    assert_eq!(check("cpu=5", "cpu=4", "cpu=3"), "", "giving back is allowed where too much is used already");
    assert_eq!(check("cpu=5", "cpu=3", "cpu=4"), "exceeded quota: q, requested: cpu=1, used: cpu=5, limited: cpu=2");
    assert_eq!(check("cpu=1", "cpu=1", "cpu=2"), "");
}

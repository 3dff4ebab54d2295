//! What is said of a release.

use crds::Release;
use jiff::Timestamp;
use serde_json::json;

use super::*;

#[test]
fn it_says_whether_it_serves_and_why_it_was_given_up() {
    let mut release: Release = serde_json::from_value(json!({
        "metadata": { "name": "web-1", "namespace": "acme", "generation": 1 },
        "spec": {
            "application": "web", "number": 1,
            "template": { "image": "app", "cpu": "1", "memory": "64Mi", "disk": "1Gi", "drain": "1s" },
            "plan": { "name": "small", "pricePerHour": "0.01", "currency": "EUR" },
        },
    }))
    .unwrap();
    let observed = Observed { now: Timestamp::UNIX_EPOCH, active: true, instances: vec![true, false, true] };
    let said = |release: &Release| {
        assert_eq!(release.plan(&observed), Vec::new(), "it never changes");
        let status = serde_json::to_value(release.status(&observed)).unwrap();
        assert!(status.get("failure").is_none(), "that is the application's to say");
        let counts = (status["active"].clone(), status["instances"].clone(), status["readyInstances"].clone());
        (counts, status["conditions"][0]["reason"].clone())
    };
    let counts = (json!(true), json!(3), json!(2));
    assert_eq!(said(&release), (counts.clone(), json!("Usable")));
    release.status =
        Some(crds::release::ReleaseStatus { failure: Some("it crashed".to_owned()), ..Default::default() });
    assert_eq!(said(&release), (counts, json!("RolloutFailed")));
}

//! The documents of a few kinds, written out.

use super::*;
use crate::core_kinds;

fn discovery() -> Discovery {
    let mut custom = core_kinds::lease();
    custom.group = "berth.dev".to_owned();
    custom.version = "v1alpha1".to_owned();
    custom.kind = "Application".to_owned();
    custom.plural = "applications".to_owned();
    custom.singular = "application".to_owned();
    custom.short_names = vec!["app".to_owned()];
    custom.categories = vec!["berth".to_owned()];
    custom.status = true;
    custom.scale = Some(crate::kind::Scale {
        spec_replicas_path: ".spec.instances".to_owned(),
        status_replicas_path: ".status.instances".to_owned(),
        label_selector_path: None,
    });
    let mut discovery = Discovery::new(&[core_kinds::namespace(), custom, core_kinds::event()]);
    discovery.push(Resource::review(
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        Scope::Cluster,
    ));
    discovery
}

#[test]
fn legacy_documents() {
    let discovery = discovery();
    insta::assert_json_snapshot!("core_versions", discovery.core_versions());
    insta::assert_json_snapshot!("groups", discovery.groups());
    insta::assert_json_snapshot!("group", discovery.group("berth.dev"));
    insta::assert_json_snapshot!("resources", discovery.resources("berth.dev", "v1alpha1"));
    insta::assert_json_snapshot!("core_resources", discovery.resources("", "v1"));
    assert_eq!(discovery.group("other.dev"), None);
    assert_eq!(discovery.group(""), None);
    assert_eq!(discovery.resources("berth.dev", "v1"), None);
}

#[test]
fn aggregated_documents() {
    let discovery = discovery();
    insta::assert_json_snapshot!("aggregated_core", discovery.aggregated_core(Aggregated::V2));
    insta::assert_json_snapshot!("aggregated_groups", discovery.aggregated_groups(Aggregated::V2));
    let beta = discovery.aggregated_groups(Aggregated::V2Beta1);
    assert_eq!(beta["apiVersion"], "apidiscovery.k8s.io/v2beta1");
    assert_eq!(beta["items"], discovery.aggregated_groups(Aggregated::V2)["items"]);
}

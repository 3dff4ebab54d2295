//! What is said of a user.

use crds::user::{PASSWORD_TYPE, UserSpec, password_name};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::*;

#[test]
fn it_says_who_can_sign_in_and_why_not() {
    let said = |spec: UserSpec, has_password| {
        let user = User::new("ann", spec);
        let observed = Observed { now: Timestamp::UNIX_EPOCH, has_password };
        assert_eq!(user.plan(&observed), Vec::new(), "there is nothing to be done");
        let status = serde_json::to_value(user.status(&observed)).unwrap();
        let conditions = status["conditions"].as_array().unwrap().iter();
        let brief = |condition: &serde_json::Value| format!("{} {}", condition["type"], condition["reason"]);
        conditions.map(brief).collect::<Vec<_>>().join(", ").replace('"', "")
    };
    let plain = UserSpec::default;
    assert_eq!(said(plain(), true), "PasswordSet Set, Ready Active");
    assert_eq!(said(plain(), false), "PasswordSet Missing, Ready NoPassword");
    assert_eq!(said(UserSpec { disabled: true, ..plain() }, true), "PasswordSet Set, Ready Disabled");
    let reserved = UserSpec { groups: vec!["system:nodes".to_owned()], ..plain() };
    assert_eq!(said(reserved, true), "PasswordSet Set, Ready Invalid");
}

proptest! {
    /// Nothing is done whatever is seen, and what was said once is said the same later: a status that changed with the time
    /// would be written without an end.
    #[test]
    fn laws(
        groups in proptest::collection::vec("(system:|)[a-z]{0,3}", 0..3),
        disabled in any::<bool>(),
        before in any::<bool>(),
        has_password in any::<bool>(),
    ) {
        let mut user = User::new("ann", UserSpec { groups, disabled, ..UserSpec::default() });
        user.metadata.generation = Some(1);
        let mut said = |second: i64, has_password: bool| {
            let observed = Observed { now: Timestamp::from_second(second).unwrap(), has_password };
            assert_eq!(user.plan(&observed), Vec::new());
            let status = serde_json::to_value(user.status(&observed)).unwrap();
            user.status = serde_json::from_value(status.clone()).unwrap();
            status
        };
        said(0, before);
        let first = said(1, has_password);
        prop_assert_eq!(said(2, has_password), first);
    }
}

#[test]
fn a_password_is_a_secret_of_a_kind_that_belongs_to_a_user() {
    let owner = OwnerReference { kind: "User".to_owned(), name: "ann".to_owned(), ..OwnerReference::default() };
    let secret = |namespace: &str, type_: &str, owners: Vec<OwnerReference>| Secret {
        metadata: ObjectMeta {
            name: Some(password_name("1-2")),
            namespace: Some(namespace.to_owned()),
            owner_references: Some(owners),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        ..Secret::default()
    };
    let ours = crds::SYSTEM_NAMESPACE;
    assert_eq!(whose_password(&secret(ours, PASSWORD_TYPE, vec![owner.clone()])), Some("ann"));
    assert_eq!(whose_password(&secret("acme", PASSWORD_TYPE, vec![owner.clone()])), None);
    assert_eq!(whose_password(&secret(ours, "Opaque", vec![owner])), None);
    assert_eq!(whose_password(&secret(ours, PASSWORD_TYPE, Vec::new())), None);
}

//! Nobody gives away groups that they may not act as: whoever writes people could otherwise make themselves anything.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::Value;

use super::Accounts;
use super::passwords::acting;
use crate::admission::{Admission, Operation, Request};
use crate::auth::{Authorizer, allows};
use crate::kind::FieldError;

/// The judgement, as a hook of admission.
pub(crate) struct Groups {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
}

impl Admission for Groups {
    fn validate<'a>(&'a self, _request: Request<'a>) -> BoxFuture<'a, Vec<FieldError>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn forbid<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Option<String>> {
        Box::pin(self.judge(request))
    }
}

impl Groups {
    async fn judge(&self, request: Request<'_>) -> Option<String> {
        let ours = &self.accounts.target.kind;
        let theirs = request.kind;
        if theirs.group != ours.group || theirs.plural != ours.plural || request.operation == Operation::Delete {
            return None;
        }
        let before = request.old.map(groups).unwrap_or_default();
        for group in groups(request.new?) {
            if before.contains(&group) {
                continue;
            }
            let attributes = acting("groups", group);
            if !allows(&*self.authorizer, request.identity, &attributes).await {
                let user = &request.identity.user;
                return Some(format!(
                    "user {user:?} may not put anybody into the group {group:?}: it takes the verb impersonate on it"
                ));
            }
        }
        None
    }
}

fn groups(person: &Value) -> Vec<&str> {
    let list = person.get("spec").and_then(|spec| spec.get("groups")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

//! Which objects of a kind a list or watch is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::kind::Kind;
use crate::path::Target;
use crate::respond;
use crate::selector::{FieldSelector, LabelSelector};
use crate::store::Object;

/// Parsed and checked selectors, asked of what the store keeps beside the bytes.
pub(crate) struct Selection {
    kind: Arc<Kind>,
    labels: LabelSelector,
    fields: FieldSelector,
    /// The store keeps the values of every field asked for; otherwise the body has to be read.
    kept: bool,
}

impl Selection {
    /// 400 for what cannot be parsed, or selects by a field that the kind does not offer.
    pub(crate) fn new(target: &Target, labels: &str, fields: &str) -> Result<Self, Error> {
        let kind = Arc::clone(&target.kind);
        let labels = LabelSelector::parse(labels).map_err(Error::bad_request)?;
        let mut fields = FieldSelector::parse(fields).map_err(Error::bad_request)?;
        fields.check(&kind).map_err(Error::bad_request)?;
        // The old `/watch/…/name` path selects one object.
        if target.watch
            && let Some(name) = &target.name
        {
            fields.terms.push(crate::selector::Term {
                field: "metadata.name".into(),
                value: name.clone(),
                equal: true,
            });
        }
        let kept = kind.view_of.is_none()
            && fields.terms.iter().all(|term| !matches!(term.field.as_str(), "source" | "reportingComponent"));
        Ok(Self { kind, labels, fields, kept })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can be selected, if there is only one.
    pub(crate) fn only_name(&self) -> Option<&str> {
        self.fields.name()
    }

    /// Whether an object is selected.
    pub(crate) fn matches(&self, object: &Object) -> Result<bool, Error> {
        if self.is_everything() {
            return Ok(true);
        }
        if !self.labels.is_empty() {
            let asked: BTreeMap<String, String> = self
                .labels
                .requirements
                .iter()
                .filter_map(|r| object.meta.labels.get(&r.key).map(|value| (r.key.clone(), value.to_owned())))
                .collect();
            if !self.labels.matches(&asked) {
                return Ok(false);
            }
        }
        if self.fields.is_empty() {
            return Ok(true);
        }
        if !self.kept {
            return Ok(self.fields.matches(&respond::tree(&self.kind, &object.body)?));
        }
        Ok(self.fields.terms.iter().all(|term| {
            let value = match term.field.as_str() {
                "metadata.name" => &*object.name,
                "metadata.namespace" => &*object.namespace,
                field => object.meta.fields.get(field).unwrap_or(""),
            };
            (value == term.value) == term.equal
        }))
    }
}

//! Which objects of a kind a list or watch is about.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

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
        Ok(Self { kind, labels, fields })
    }

    /// Whether nothing is left out.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty() && self.shows().is_none()
    }

    /// What a view leaves out by itself.
    fn shows(&self) -> Option<fn(&Value) -> bool> {
        self.kind.view_of.as_ref().and_then(|view| view.shows)
    }

    /// The value of a field as the store keeps it beside the bytes; `None` if the body has to be read for it.
    fn kept<'a>(&self, object: &'a Object, field: &str) -> Option<&'a str> {
        match (field, &self.kind.view_of) {
            ("metadata.name", _) => Some(&object.name),
            ("metadata.namespace", _) => Some(&object.namespace),
            (_, Some(view)) => {
                let (_, stored) = view.fields.iter().find(|(own, _)| *own == field)?;
                Some(object.meta.fields.get(stored).unwrap_or(""))
            }
            // An Event's are made of two fields.
            ("source" | "reportingComponent", None) => None,
            (field, None) => Some(object.meta.fields.get(field).unwrap_or("")),
        }
    }

    /// The value of a label.
    fn label<'a>(&self, object: &'a Object, key: &str) -> Option<&'a str> {
        let renamed = self.kind.view_of.iter().flat_map(|view| view.labels).find(|(own, _)| *own == key);
        object.meta.labels.get(renamed.map_or(key, |(_, stored)| stored))
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
                .filter_map(|r| self.label(object, &r.key).map(|value| (r.key.clone(), value.to_owned())))
                .collect();
            if !self.labels.matches(&asked) {
                return Ok(false);
            }
        }
        let mut unkept = false;
        for term in &self.fields.terms {
            match self.kept(object, &term.field) {
                Some(value) if (value == term.value) != term.equal => return Ok(false),
                Some(_) => {}
                None => unkept = true,
            }
        }
        if !unkept && self.shows().is_none() {
            return Ok(true);
        }
        if let Some(shows) = self.shows()
            && !shows(&respond::parse(&object.body)?)
        {
            return Ok(false);
        }
        Ok(!unkept || self.fields.matches(&respond::tree(&self.kind, &object.body)?))
    }
}

//! What a quota says. Pure.

use std::fmt;

use serde_json::Value;

use super::{Amount, Usage};

/// One `ResourceQuota`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    pub(super) name: String,
    pub(super) limits: Vec<Limit>,
}

/// One line of `spec.hard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// As it was written.
    pub(super) name: String,
    /// What is measured: `secrets` is the old name of `count/secrets`.
    pub(super) measured: String,
    /// As it was written.
    pub(super) text: String,
    pub(super) amount: Amount,
}

/// Names without a group that mean a number of objects, as in Kubernetes.
const COUNTED: [&str; 3] = ["configmaps", "resourcequotas", "secrets"];

impl Quota {
    /// Reads `spec.hard`; what is no quantity was refused when it was written.
    pub(super) fn read(name: &str, object: &Value) -> Self {
        let hard = object.pointer("/spec/hard").and_then(Value::as_object);
        let limits = hard.into_iter().flatten().filter_map(|(name, value)| {
            let text = quantity(value)?;
            let amount = Amount::parse(&text)?;
            let measured = if COUNTED.contains(&name.as_str()) { format!("count/{name}") } else { name.clone() };
            Some(Limit { name: name.clone(), measured, text, amount })
        });
        Self { name: name.to_owned(), limits: limits.collect() }
    }

    /// What would be too much if `new` took the place of `old` where `used`, which has `old` in it, is used already.
    pub(super) fn exceeded(&self, used: &Usage, old: &Usage, new: &Usage) -> Option<Exceeded> {
        let of = |usage: &Usage, limit: &Limit| usage.get(&limit.measured).copied().unwrap_or_default();
        let mut over: Vec<&Limit> = self
            .limits
            .iter()
            .filter(|limit| {
                // Who gives back, or changes something else, is let through even where too much is used already.
                of(new, limit) > of(old, limit) && of(used, limit).less(of(old, limit)) + of(new, limit) > limit.amount
            })
            .collect();
        if over.is_empty() {
            return None;
        }
        over.sort_by(|a, b| a.name.cmp(&b.name));
        let list = |amount: &dyn Fn(&Limit) -> String| {
            over.iter().map(|limit| format!("{}={}", limit.name, amount(limit))).collect::<Vec<_>>().join(",")
        };
        Some(Exceeded {
            quota: self.name.clone(),
            requested: list(&|limit| of(new, limit).less(of(old, limit)).shown_like(&limit.text)),
            used: list(&|limit| of(used, limit).shown_like(&limit.text)),
            limited: list(&|limit| limit.text.clone()),
        })
    }
}

/// A quantity as text: clients also write numbers.
pub(super) fn quantity(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Which quota leaves no room, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    quota: String,
    requested: String,
    used: String,
    limited: String,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, requested, used, limited } = self;
        write!(f, "exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")
    }
}

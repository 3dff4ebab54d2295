//! Label selectors and field selectors: the strings of `?labelSelector=` and `?fieldSelector=`.
//!
//! The grammar is that of Kubernetes' `labels.Parse` and `fields.ParseSelector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use crate::kind::{Kind, Scope};
use crate::schema::metadata::{label_key_problem, label_value_problem};

/// A parsed label selector: every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// What is asked of the labels; empty selects everything.
    pub requirements: Vec<Requirement>,
}

/// One clause of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold of its value.
    pub operator: Operator,
}

/// What must hold of a label's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key=value`
    Equals(String),
    /// `key!=value`; an absent label is not equal.
    NotEquals(String),
    /// `key in (a,b)`
    In(BTreeSet<String>),
    /// `key notin (a,b)`; an absent label is in no set.
    NotIn(BTreeSet<String>),
    /// `key>1`
    GreaterThan(i64),
    /// `key<1`
    LessThan(i64),
}

impl LabelSelector {
    /// Reads a selector; the error says what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Tokens::new(text);
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements
                .push(requirement(&mut tokens).map_err(|error| format!("unable to parse requirement: {error}"))?);
            match tokens.next() {
                Token::End => return Ok(Self { requirements }),
                Token::Symbol(",") if tokens.peek() != Token::End => {}
                Token::Symbol(",") => return Err("found '', expected: identifier after ','".to_owned()),
                other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
            }
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|r| r.operator.matches(labels.get(&r.key).map(String::as_str)))
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl Operator {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match self {
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::Equals(wanted) => value == Some(wanted),
            Self::NotEquals(unwanted) => value != Some(unwanted),
            Self::In(wanted) => value.is_some_and(|v| wanted.contains(v)),
            Self::NotIn(unwanted) => value.is_none_or(|v| !unwanted.contains(v)),
            Self::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Self::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals(value) => write!(f, "{key}={value}"),
            Operator::NotEquals(value) => write!(f, "{key}!={value}"),
            Operator::In(values) => write!(f, "{key} in ({})", list(values)),
            Operator::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Operator::GreaterThan(bound) => write!(f, "{key}>{bound}"),
            Operator::LessThan(bound) => write!(f, "{key}<{bound}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Symbol(&'a str),
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Symbol(text) => f.write_str(text),
            Self::End => Ok(()),
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.trim_start() }
    }

    /// The next token and what follows it.
    fn split(&self) -> (Token<'a>, &'a str) {
        // Longer symbols first: `!=` is not `!` and `=`.
        for symbol in ["==", "!=", "=", "!", ",", "(", ")", ">", "<"] {
            if let Some(rest) = self.rest.strip_prefix(symbol) {
                return (Token::Symbol(&self.rest[..symbol.len()]), rest.trim_start());
            }
        }
        let end = self.rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        (if word.is_empty() { Token::End } else { Token::Word(word) }, rest.trim_start())
    }

    fn peek(&self) -> Token<'a> {
        self.split().0
    }

    fn next(&mut self) -> Token<'a> {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let absent = tokens.peek() == Token::Symbol("!");
    if absent {
        tokens.next();
    }
    let key = match tokens.next() {
        Token::Word(word) => word.to_owned(),
        other => return Err(format!("found '{other}', expected: identifier")),
    };
    if let Some(problem) = label_key_problem(&key) {
        return Err(format!("key: Invalid value: {key:?}: {problem}"));
    }
    if absent {
        return Ok(Requirement { key, operator: Operator::DoesNotExist });
    }
    let operator = match tokens.peek() {
        Token::End | Token::Symbol(",") => Operator::Exists,
        Token::Symbol("=" | "==") => {
            tokens.next();
            Operator::Equals(value(tokens, &key)?)
        }
        Token::Symbol("!=") => {
            tokens.next();
            Operator::NotEquals(value(tokens, &key)?)
        }
        Token::Word("in") => {
            tokens.next();
            Operator::In(values(tokens, &key)?)
        }
        Token::Word("notin") => {
            tokens.next();
            Operator::NotIn(values(tokens, &key)?)
        }
        Token::Symbol(">") => {
            tokens.next();
            Operator::GreaterThan(bound(tokens)?)
        }
        Token::Symbol("<") => {
            tokens.next();
            Operator::LessThan(bound(tokens)?)
        }
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, >, <")),
    };
    Ok(Requirement { key, operator })
}

fn checked(key: &str, value: &str) -> Result<String, String> {
    match label_value_problem(value) {
        Some(problem) => Err(format!("values[0][{key}]: Invalid value: {value:?}: {problem}")),
        None => Ok(value.to_owned()),
    }
}

fn value(tokens: &mut Tokens<'_>, key: &str) -> Result<String, String> {
    match tokens.peek() {
        // `key=` asks for the empty value.
        Token::End | Token::Symbol(",") => Ok(String::new()),
        Token::Word(word) => {
            tokens.next();
            checked(key, word)
        }
        other @ Token::Symbol(_) => Err(format!("found '{other}', expected: identifier")),
    }
}

fn values(tokens: &mut Tokens<'_>, key: &str) -> Result<BTreeSet<String>, String> {
    match tokens.next() {
        Token::Symbol("(") => {}
        other => return Err(format!("found '{other}' expected: '('")),
    }
    let mut values = BTreeSet::new();
    loop {
        // An empty place between commas is the empty value, as in `in (,a)`.
        let value = match tokens.peek() {
            Token::Word(word) => {
                tokens.next();
                checked(key, word)?
            }
            _ => String::new(),
        };
        values.insert(value);
        match tokens.next() {
            Token::Symbol(",") => {}
            Token::Symbol(")") => return Ok(values),
            other => return Err(format!("found '{other}', expected: ',' or ')'")),
        }
    }
}

fn bound(tokens: &mut Tokens<'_>) -> Result<i64, String> {
    match tokens.next() {
        Token::Word(word) => word.parse().map_err(|error| {
            format!(
                "values[0]: Invalid value: {word:?}: for 'Gt', 'Lt' operators, the value must be an integer: {error}"
            )
        }),
        other => Err(format!("found '{other}', expected: identifier")),
    }
}

/// A parsed field selector: every term must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// What is asked of the fields; empty selects everything.
    pub terms: Vec<Term>,
}

/// One clause of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The dotted path, for example `metadata.name`.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// Whether the field must have the value (`=`), or must not (`!=`).
    pub equal: bool,
}

impl FieldSelector {
    /// Reads a selector such as `metadata.name=web,status.phase!=Failed`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invalid = |part: &str| format!("invalid selector: '{text}'; can't understand '{part}'");
        let mut terms = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let at = part.find("!=").into_iter().chain(part.find('=')).min().ok_or_else(|| invalid(part))?;
            let (field, rest) = part.split_at(at);
            let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
                (false, value)
            } else {
                (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')).ok_or_else(|| invalid(part))?)
            };
            terms.push(Term {
                field: field.to_owned(),
                value: unescape(value).map_err(|why| format!("{}: {why}", invalid(part)))?,
                equal,
            });
        }
        Ok(Self { terms })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether `kind` lets its objects be selected by every field named; the error is worded as Kubernetes' 400.
    pub fn check(&self, kind: &Kind) -> Result<(), String> {
        for term in &self.terms {
            let known = term.field == "metadata.name"
                || (term.field == "metadata.namespace" && kind.scope == Scope::Namespaced)
                || kind.selectable_fields.contains(&term.field);
            if !known {
                return Err(format!("field label not supported: {}", term.field));
            }
        }
        Ok(())
    }

    /// The name, if the selector admits only one: such a list is a get, such a watch follows one object.
    pub fn name(&self) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == "metadata.name").map(|t| t.value.as_str())
    }

    /// Whether this object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| (field_value(object, &term.field) == term.value) == term.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

/// The value a field selector sees: the text of a scalar, empty for what is absent.
pub fn field_value(object: &Value, field: &str) -> String {
    // An Event's `source` and `reportingComponent` are each selectable by the component, wherever it was written.
    if let "source" | "reportingComponent" = field {
        let source = object.pointer("/source/component").or_else(|| object.pointer("/deprecatedSource/component"));
        let reporting = object.get("reportingComponent").or_else(|| object.get("reportingController"));
        let (first, second) = if field == "source" { (source, reporting) } else { (reporting, source) };
        let text = |v: Option<&Value>| v.and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned);
        return text(first).or_else(|| text(second)).unwrap_or_default();
    }
    let mut value = object;
    for part in field.split('.') {
        match value.get(part) {
            Some(inner) => value = inner,
            None => return String::new(),
        }
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                Some(other) => return Err(format!("invalid escape sequence: \\{other}")),
                None => return Err("invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("unescaped {c:?} in value")),
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;

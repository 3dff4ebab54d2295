//! The kinds this server serves: Kubernetes' few, and Berth's own.

use std::sync::Arc;

use anyhow::Context;
use apiserver::Kinds;
use apiserver::kind::{FieldError, FieldErrorReason, Kind};

/// All kinds, in the order in which they are numbered.
pub(crate) fn registered() -> anyhow::Result<Kinds> {
    let mut kinds = apiserver::core_kinds::all();
    kinds.push(apiserver::definitions::kind());
    for entry in crds::KINDS {
        let crd = (entry.crd)();
        let mut kind =
            Kind::from_crd(&crd, entry.table).map_err(|problem| anyhow::anyhow!("{}: {problem}", entry.noun))?;
        kind.sealed = entry.sealed;
        let validate = entry.validate;
        kind.validate = Some(Arc::new(move |new, _old| {
            let field_error = |invalid: crds::Invalid| FieldError {
                field: invalid.field,
                reason: FieldErrorReason::Invalid,
                message: invalid.message,
            };
            validate(new).into_iter().map(field_error).collect()
        }));
        kinds.push(kind);
    }
    kinds.extend(super::views::all());
    Kinds::new(kinds).context("the kinds do not fit together")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_is_registered() {
        let kinds = super::registered().unwrap();
        for entry in crds::KINDS {
            let crd = (entry.crd)();
            let (_, kind) = kinds.find(crds::GROUP, crds::VERSION, &crd.spec.names.plural).unwrap();
            assert_eq!(kind.table, entry.table);
        }
    }
}

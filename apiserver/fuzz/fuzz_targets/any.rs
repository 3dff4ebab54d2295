//! One program for all properties: BERTH_FUZZ says which is asked. `scripts/fuzz` runs it for each.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../src/properties.rs"]
mod properties;

static PROPERTY: LazyLock<properties::Property> = LazyLock::new(|| {
    let wanted = std::env::var("BERTH_FUZZ").expect("BERTH_FUZZ names a property");
    let found = properties::ALL.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("there is no property {wanted:?}")).1
});

fuzz_target!(|data: &[u8]| PROPERTY(data));

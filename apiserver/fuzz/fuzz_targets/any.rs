//! One program for all properties: the first byte of the input says which is asked, unless BERTH_FUZZ names one.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../src/properties.rs"]
mod properties;

static ONE: LazyLock<Option<properties::Property>> = LazyLock::new(|| {
    let wanted = std::env::var("BERTH_FUZZ").ok()?;
    let found = properties::ALL.iter().find(|(name, _)| *name == wanted);
    Some(found.unwrap_or_else(|| panic!("there is no property {wanted:?}")).1)
});

fuzz_target!(|data: &[u8]| {
    match (*ONE, data.split_first()) {
        (Some(property), _) => property(data),
        (None, Some((first, rest))) => properties::ALL[usize::from(*first) % properties::ALL.len()].1(rest),
        (None, None) => {}
    }
});

//! Laws and examples.

//! Whole-system tests. Each starts a Berth of its own; they run one after the other, since they share the machine's
//! Docker and firewall.
#![expect(clippy::disallowed_methods, reason = "tests take their settings from the environment")]
#![expect(clippy::print_stdout, reason = "a run that uses chance prints its seed")]

mod bad_input;
mod commands;
mod crashes;
mod examples;
mod kube_rs;
mod pods;
mod postgres;
mod up;

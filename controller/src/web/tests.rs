//! The routes, asked over HTTP as different people.

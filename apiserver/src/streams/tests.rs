//! What the queries of clients mean, and how an end is told.

use serde_json::{Value, json};

use super::*;
use crate::query::Query;

fn query(text: &str) -> Query {
    Query::parse(Some(text))
}

#[test]
fn a_log_is_asked_for_as_kubectl_does() {
    let (wanted, limit) = log::options(&query("container=web")).unwrap();
    assert_eq!((wanted, limit), (Log { stdout: true, stderr: true, ..Log::default() }, u64::MAX));
    let text = "follow=true&tailLines=5&sinceSeconds=60&timestamps=true&previous=false&limitBytes=10&stream=Stderr";
    let (wanted, limit) = log::options(&query(text)).unwrap();
    let expected = Log {
        follow: true,
        tail_lines: Some(5),
        since_seconds: Some(60),
        timestamps: true,
        stderr: true,
        ..Log::default()
    };
    assert_eq!((wanted, limit), (expected, 10));
    let (wanted, _) = log::options(&query("sinceTime=2026-01-01T00%3A00%3A00Z")).unwrap();
    assert_eq!(wanted.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    for wrong in [
        "tailLines=-1",
        "tailLines=many",
        "limitBytes=0",
        "sinceTime=yesterday",
        "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1",
        "stream=Stdin",
    ] {
        assert_eq!(log::options(&query(wrong)).map_err(|error| error.code()), Err(400), "{wrong}");
    }
}

#[test]
fn a_program_is_asked_for_as_kubectl_does() {
    let running = json!({"status": {"phase": "Running"}});
    let wanted =
        process::exec(&query("command=sh&command=-c&command=a+b&stdin=true&stdout=true&stderr=true"), &running, "x");
    let command = ["sh", "-c", "a b"].map(str::to_owned).to_vec();
    let expected = Exec { command, stdin: true, stdout: true, stderr: true, tty: false };
    assert_eq!(wanted, Ok(Open::Exec(expected)));
    // A terminal has one output.
    let Ok(Open::Exec(exec)) = process::exec(&query("command=sh&stdout=1&stderr=1&tty=1"), &running, "x") else {
        panic!("refused")
    };
    assert!(exec.tty && !exec.stderr);
    let ended = json!({"status": {"phase": "Succeeded"}});
    for (wrong, pod) in [
        ("stdout=true", &running),
        ("command=ls", &running),
        ("command=&stdout=true", &running),
        ("command=ls&stdout=true", &ended),
    ] {
        assert_eq!(process::exec(&query(wrong), pod, "x").map_err(|error| error.code()), Err(400), "{wrong}");
    }
}

#[test]
fn an_end_is_told_as_a_status() {
    let told = |end: &End| -> Value {
        let frame = socket::status(end);
        assert_eq!(frame[0], END);
        serde_json::from_slice(&frame[1..]).unwrap()
    };
    assert_eq!(told(&End { exit_code: Some(0), error: None })["status"], "Success");
    assert_eq!(told(&End::default())["status"], "Success");
    let failed = told(&End { exit_code: Some(3), error: None });
    assert_eq!((&failed["status"], &failed["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
    assert_eq!(failed["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let broken = told(&End { exit_code: None, error: Some("gone".to_owned()) });
    assert_eq!((&broken["reason"], &broken["message"]), (&json!("InternalError"), &json!("gone")));
}

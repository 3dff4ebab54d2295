//! How a command fails: what the person reads, and the exit code that a script reads.

use std::fmt::Write;
use std::process::ExitCode;

/// What kube gives as the reason of an answer that no API server wrote, such as a proxy's page.
const UNKNOWN_ANSWER: &str = "Failed to parse error data";

/// The exit codes; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Refused = 4,
    NotAllowed = 5,
    Unreachable = 6,
    TimedOut = 7,
    NotReady = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that knows its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error with an exit code.
pub(crate) fn fail(exit: Exit, message: impl Into<String>) -> anyhow::Error {
    Failure { exit, message: message.into() }.into()
}

/// The exit code of any error: its own, or what the server's answer says.
pub(crate) fn exit_of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(error) = cause.downcast_ref::<kube::Error>() {
            return of_request(error, "the server").exit;
        }
    }
    Exit::Failed
}

/// What the person reads: the causes in a row, without those that only say again what was said.
pub(crate) fn text_of(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let known = cause.downcast_ref::<kube::Error>().map(|error| of_request(error, "the server").message);
        let ends = known.is_some();
        let part = known.unwrap_or_else(|| cause.to_string());
        if !text.contains(&part) {
            let between = if text.is_empty() { "" } else { ": " };
            text.push_str(between);
            text.push_str(&part);
        }
        if ends {
            break;
        }
    }
    text
}

/// What came of a request to `server` that failed.
pub(crate) fn of_request(error: &kube::Error, server: &str) -> Failure {
    match error {
        kube::Error::Api(status) => of_answer(status, server),
        kube::Error::HyperError(_) | kube::Error::Service(_) => of_connection(error, server),
        kube::Error::ReadEvents(error) => unreachable(server, &format!("the connection broke off: {error}")),
        kube::Error::SerdeError(_) => {
            Failure { exit: Exit::Failed, message: format!("{server} did not answer as an API server does") }
        }
        kube::Error::Auth(error) => {
            Failure { exit: Exit::NotAllowed, message: format!("the kubeconfig's credentials cannot be used: {error}") }
        }
        other => Failure { exit: Exit::Failed, message: other.to_string() },
    }
}

fn of_answer(status: &kube::core::Status, server: &str) -> Failure {
    if status.reason == UNKNOWN_ANSWER {
        let message = format!("{server} is no API server: it answered with {} and no word that is known", status.code);
        return Failure { exit: Exit::Failed, message };
    }
    let exit = match status.code {
        404 => Exit::NotFound,
        400 | 409 | 413 | 422 => Exit::Refused,
        401 | 403 => Exit::NotAllowed,
        502..=504 => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let mut message = status.message.clone();
    // Any other word says more than that.
    if status.code == 401 && status.message == "Unauthorized" {
        message = format!(
            "{server} does not know these credentials: the kubeconfig is of another server, or what is in it has ended; sign in with berth login"
        );
    }
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    if status.code == 422 && causes.len() > 1 {
        // Many wrong fields in one line are read by nobody.
        let head =
            message.split_once(" is invalid: ").map_or(message.clone(), |(head, _)| format!("{head} is invalid:"));
        message = head;
        for cause in causes {
            write!(message, "\n  {}: {}", cause.field, cause.message).expect("a string takes all text");
        }
    }
    Failure { exit, message }
}

/// Why there was no answer: the innermost cause is the one that says so.
fn of_connection(error: &kube::Error, server: &str) -> Failure {
    let mut innermost = error.to_string();
    let mut source = std::error::Error::source(error);
    let mut why = None;
    while let Some(cause) = source {
        innermost = cause.to_string();
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            why = why.or(match io.kind() {
                std::io::ErrorKind::ConnectionRefused => Some("nothing listens at this address".to_owned()),
                std::io::ErrorKind::TimedOut => Some("it does not answer".to_owned()),
                _ => None,
            });
            if let Some(tls) = tls_inside(io) {
                return of_tls(tls, server);
            }
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return of_tls(tls, server);
        }
        if innermost.contains("dns error") || innermost.contains("failed to lookup address") {
            why = Some("there is no host of this name".to_owned());
        }
        if innermost.contains("invalid HTTP version") {
            why = Some("it does not answer in HTTP: should its address begin with https://?".to_owned());
        }
        source = cause.source();
    }
    unreachable(server, &why.unwrap_or(innermost))
}

fn unreachable(server: &str, why: &str) -> Failure {
    let hint = "Is the server running? `berth up` starts one on this machine.";
    Failure { exit: Exit::Unreachable, message: format!("cannot reach {server}: {why}\n{hint}") }
}

/// An error of TLS is wrapped, even several times, in one of input and output, which does not name it as its source.
fn tls_inside(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref::<rustls::Error>().or_else(|| tls_inside(inner.downcast_ref::<std::io::Error>()?))
}

fn of_tls(error: &rustls::Error, server: &str) -> Failure {
    let why = match error {
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature,
        ) => "its certificate is not signed by the authority in the kubeconfig: is the kubeconfig of another server?"
            .to_owned(),
        rustls::Error::InvalidCertificate(
            rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for other names: start the server with --host NAME".to_owned(),
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: should the address begin with http://?".to_owned(),
        other => other.to_string(),
    };
    Failure { exit: Exit::Unreachable, message: format!("cannot trust {server}: {why}") }
}

/// Failures of several objects, of which one does not keep the others from being tried.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// Takes the error of a result, if it is one.
    pub(crate) fn check<T>(&mut self, result: anyhow::Result<T>) -> Option<T> {
        result.map_err(|error| self.0.push(error)).ok()
    }

    /// All that went wrong as one error, with the exit code of the first.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Some(first) = self.0.first() else { return Ok(()) };
        let texts: Vec<String> = self.0.iter().map(text_of).collect();
        Err(fail(exit_of(first), texts.join("\nberth: ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, message: &str) -> anyhow::Error {
        let status = kube::core::Status { code, message: message.to_owned(), ..kube::core::Status::default() };
        kube::Error::Api(Box::new(status)).into()
    }

    #[test]
    fn answers_have_exit_codes() {
        for (code, exit) in [
            (400, Exit::Refused),
            (401, Exit::NotAllowed),
            (403, Exit::NotAllowed),
            (404, Exit::NotFound),
            (409, Exit::Refused),
            (422, Exit::Refused),
            (500, Exit::Failed),
            (503, Exit::Unreachable),
        ] {
            assert_eq!(exit_of(&answer(code, "x").context("plan/small")), exit, "{code}");
        }
    }

    #[test]
    fn pages_of_others_are_not_shown() {
        let status = kube::core::Status::failure("<html>…</html>", UNKNOWN_ANSWER).with_code(404);
        let failure = of_request(&kube::Error::Api(Box::new(status)), "https://x");
        assert_eq!(failure.exit, Exit::Failed);
        assert!(failure.message.starts_with("https://x is no API server"), "{}", failure.message);
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let error = anyhow::anyhow!("No such file").context("cannot read /x: No such file").context("file x");
        assert_eq!(text_of(&error), "file x: cannot read /x: No such file");
        assert_eq!(text_of(&answer(404, "plans \"x\" not found").context("plan/x")), "plan/x: plans \"x\" not found");
    }

    #[test]
    fn many_wrong_fields_are_listed() {
        let cause = |field: &str| serde_json::json!({"reason": "FieldValueInvalid", "field": field, "message": "Invalid value: 1"});
        let status = serde_json::json!({"code": 422, "message": "Plan \"x\" is invalid: [spec.a: …, spec.b: …]",
            "reason": "Invalid", "status": "Failure", "details": {"causes": [cause("spec.a"), cause("spec.b")]}});
        let status: kube::core::Status = serde_json::from_value(status).unwrap();
        let text = of_request(&kube::Error::Api(Box::new(status)), "x").message;
        assert_eq!(text, "Plan \"x\" is invalid:\n  spec.a: Invalid value: 1\n  spec.b: Invalid value: 1");
    }

    #[test]
    fn several_failures_are_one() {
        let mut failures = Failures::default();
        assert_eq!(failures.check(Ok(1)), Some(1));
        assert_eq!(failures.check::<()>(Err(fail(Exit::NotFound, "a"))), None);
        assert_eq!(failures.check::<()>(Err(fail(Exit::Refused, "b"))), None);
        let error = failures.end().unwrap_err();
        assert_eq!((exit_of(&error), text_of(&error).as_str()), (Exit::NotFound, "a\nberth: b"));
        assert!(Failures::default().end().is_ok());
    }
}

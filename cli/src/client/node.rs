//! `berth node`: join tokens and the list of nodes.

use serde_json::json;

use super::{Session, get};
use crate::args::{Get, Node};
use crate::failure::{Exit, fail};
use crate::print;

pub(crate) async fn node(command: &Node) -> anyhow::Result<()> {
    match command {
        Node::List { connection, output } => get(&Get::all("nodes.berth.dev", connection, *output)).await,
        Node::Token { connection, region, ttl, uses } => {
            let seconds = seconds("--ttl", ttl, 30)?;
            let session = Session::open(connection).await?;
            let token = token(&session, region, seconds, *uses).await?;
            print::line(&token);
            print::note(
                "It is not shown again. On the new node: write it to a file that only root reads, then\n  \
                 berth agent --server URL --token-file FILE --data DIR",
            );
            Ok(())
        }
    }
}

/// A time such as `90m`, `24h` or `7d`, in seconds.
pub(super) fn seconds(option: &str, text: &str, days_max: u64) -> anyhow::Result<u64> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    match (days, text.parse::<crds::duration::Span>()) {
        (Some(days), _) if days <= days_max => Ok(days * 24 * 3600),
        (None, Ok(span)) => Ok(span.get().as_secs()),
        _ => Err(fail(
            Exit::Usage,
            format!("{option} {text:?} must be from 1m to {days_max}d, for example 90m, 24h or 7d"),
        )),
    }
}

/// A join token, which the server will not show again.
pub(crate) async fn token(session: &Session, region: &str, ttl_seconds: u64, uses: u32) -> anyhow::Result<String> {
    let body = serde_json::to_vec(&json!({"region": region, "ttlSeconds": ttl_seconds, "uses": uses}))?;
    let path = "/api/paas/nodes/tokens";
    let answer = session.send_body("POST", path, "application/json", "application/json", body).await?;
    let token = answer["token"].as_str().ok_or_else(|| fail(Exit::Failed, "the server answered without a token"))?;
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in [("90m", 5400), ("24h", 86_400), ("7d", 604_800), ("30d", 2_592_000)] {
            assert_eq!(seconds("--ttl", text, 30).unwrap(), expected, "{text}");
        }
        for bad in ["", "5", "31d", "-1h", "d", "1y"] {
            assert!(seconds("--ttl", bad, 30).is_err(), "{bad}");
        }
    }
}

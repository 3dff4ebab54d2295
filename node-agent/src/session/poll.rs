//! Without a WebSocket: the same messages, asked for with long polls and posted.

use std::time::Duration;

use node_protocol::{Down, Poll, PollAnswer, Up};
use reqwest::RequestBuilder;
use tokio_util::sync::CancellationToken;

use super::voice::Voice;
use super::{Ears, Error, Session};

/// How long a poll may take: the gateway holds it for 25 s.
const POLL_WITHIN: Duration = Duration::from_secs(40);
/// How many bytes of messages fill a post: with one more of the largest it is smaller than the protocol allows.
const POST_BYTES: usize = 2 << 20;
/// How long a post may take.
const POST_WITHIN: Duration = Duration::from_secs(20);

/// One poll, and all posts that fall due meanwhile. Ends with the poll's answer; then a WebSocket is tried again.
pub(super) async fn talk(
    session: &Session,
    voice: &mut Voice,
    ears: &mut Ears,
    shutdown: &CancellationToken,
) -> Result<(), Error> {
    voice.begin();
    let mut address = session.dialer.address("assignment")?;
    let hello = voice.hello();
    address
        .query_pairs_mut()
        .append_pair("protocol", &hello.protocol.to_string())
        .append_pair("agentVersion", &hello.agent_version)
        .extend_pairs(hello.revision.map(|revision| ("revision", revision.to_string())))
        .extend_pairs(hello.digest.map(|digest| ("digest", digest)));
    let question = session.http.get(address).timeout(POLL_WITHIN);
    let answer = ask(session, question);
    tokio::pin!(answer);
    let mut answers = Vec::new();
    loop {
        answers.extend(voice.news(ears));
        // A revision that did not fit is asked for by the next poll.
        answers.retain(|message| !matches!(message, Up::Hello(_)));
        if !answers.is_empty() {
            post(session, ears, &mut answers).await?;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = voice.changed() => {}
            messages = &mut answer => {
                for message in messages?.messages {
                    ears.hear(message).await?;
                }
                return settle(session, voice, ears, answers).await;
            }
        }
    }
}

/// Gives the agent a moment to accept what it was told, so that the next poll says the new revision.
async fn settle(session: &Session, voice: &mut Voice, ears: &mut Ears, mut answers: Vec<Up>) -> Result<(), Error> {
    if tokio::time::timeout(Duration::from_millis(500), voice.changed()).await.is_ok() {
        answers.extend(voice.news(ears));
    }
    answers.retain(|message| !matches!(message, Up::Hello(_)));
    if answers.is_empty() { Ok(()) } else { post(session, ears, &mut answers).await }
}

async fn post(session: &Session, ears: &mut Ears, answers: &mut Vec<Up>) -> Result<(), Error> {
    for messages in posts(std::mem::take(answers)) {
        let body = Poll { messages };
        let question = session.http.post(session.dialer.address("observed")?).json(&body).timeout(POST_WITHIN);
        for message in ask(session, question).await?.messages {
            ears.hear(message).await?;
        }
    }
    Ok(())
}

/// Messages in as many posts as it takes for each to be of an allowed size: a post is full with the message that fills it.
fn posts(messages: Vec<Up>) -> Vec<Vec<Up>> {
    let (mut posts, mut post, mut bytes) = (Vec::new(), Vec::new(), 0);
    for message in messages {
        bytes += serde_json::to_vec(&message).map_or(0, |json| json.len());
        post.push(message);
        if bytes >= POST_BYTES {
            posts.push(std::mem::take(&mut post));
            bytes = 0;
        }
    }
    posts.extend(Some(post).filter(|post| !post.is_empty()));
    posts
}

async fn ask(session: &Session, question: RequestBuilder) -> Result<PollAnswer, Error> {
    let broken = |error: reqwest::Error| Error::Broken(error.without_url().to_string());
    let token = session.dialer.identity.token().map_err(|error| Error::Refused(error.to_string()))?;
    let answer = question.bearer_auth(token).send().await.map_err(broken)?;
    let status = answer.status();
    if status == reqwest::StatusCode::UNAUTHORIZED || status == reqwest::StatusCode::FORBIDDEN {
        return Err(Error::Refused(answer.text().await.unwrap_or_default()));
    }
    if !status.is_success() {
        return Err(Error::Broken(format!("the gateway answered {status}")));
    }
    let text = answer.text().await.map_err(broken)?;
    understood(&text)
}

/// Reads an answer message by message: one that this side does not know costs only itself.
fn understood(text: &str) -> Result<PollAnswer, Error> {
    #[derive(serde::Deserialize)]
    struct Raw {
        #[serde(default)]
        messages: Vec<serde_json::Value>,
    }
    let raw: Raw =
        serde_json::from_str(text).map_err(|error| Error::Broken(format!("the answer is no JSON: {error}")))?;
    let messages =
        raw.messages.into_iter().filter_map(|message| serde_json::from_value::<Down>(message).ok()).collect();
    Ok(PollAnswer { messages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_of_an_allowed_size() {
        let message = |number: u64| Up::BuildLog { build: "b".to_owned(), offset: number, text: "x".repeat(500_000) };
        let all: Vec<Up> = (0..20).map(message).collect();
        let posts = posts(all.clone());
        assert!(posts.iter().all(|post| (1..=5).contains(&post.len())) && posts.len() == 4);
        assert_eq!(posts.concat(), all);
    }

    #[test]
    fn an_unknown_message_costs_only_itself() {
        let text = r#"{"messages":[{"type":"dance"},{"type":"logKept","build":"b","bytes":3}],"mood":"good"}"#;
        assert_eq!(understood(text).unwrap().messages, [Down::LogKept { build: "b".to_owned(), bytes: 3 }]);
        assert!(understood("<html>").is_err());
    }
}

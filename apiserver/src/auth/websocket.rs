//! A browser cannot set headers on a WebSocket: it sends its token as a subprotocol,
//! `base64url.bearer.authorization.k8s.io.TOKEN`, beside the one that it really wants. Here the token is moved to where
//! every other client has it, before anybody asks who is calling.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};

use crate::error::Error;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Rewrites the headers; 401 for two tokens, one that cannot be read, or none of the other subprotocols that the answer
/// has to choose.
pub(crate) fn unpack(headers: &mut HeaderMap) -> Result<(), Error> {
    take(headers).map_err(|Unreadable| Error::unauthorized())
}

/// A token that cannot be read, or is not alone.
#[derive(Debug, PartialEq, Eq)]
struct Unreadable;

fn take(headers: &mut HeaderMap) -> Result<(), Unreadable> {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok(());
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered.flat_map(|value| value.split(',')).map(str::trim).collect();
    let (tokens, others): (Vec<&str>, Vec<&str>) = offered.iter().partition(|protocol| protocol.starts_with(PREFIX));
    let token = match tokens.as_slice() {
        [] => return Ok(()),
        [one] if !others.is_empty() => one.trim_start_matches(PREFIX),
        _ => return Err(Unreadable),
    };
    let token = URL_SAFE_NO_PAD.decode(token).map_err(|_not_base64| Unreadable)?;
    let mut bearer = b"Bearer ".to_vec();
    bearer.extend_from_slice(&token);
    let mut bearer = HeaderValue::from_bytes(&bearer).map_err(|_control_characters| Unreadable)?;
    bearer.set_sensitive(true);
    let others = HeaderValue::from_str(&others.join(", ")).map_err(|_not_text| Unreadable)?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    // Whoever can set the header means that one.
    headers.entry(header::AUTHORIZATION).or_insert(bearer);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(protocols: &[&str]) -> Result<(Option<String>, Option<String>), Unreadable> {
        let mut headers = HeaderMap::new();
        for protocol in protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        }
        take(&mut headers)?;
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        Ok((text(header::AUTHORIZATION), text(header::SEC_WEBSOCKET_PROTOCOL)))
    }

    #[test]
    fn the_token_becomes_a_header_and_the_rest_stays() {
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("s3cret"));
        let (bearer, left) = taken(&[&format!("{token}, v5.channel.k8s.io"), "v4.channel.k8s.io"]).unwrap();
        assert_eq!(bearer.as_deref(), Some("Bearer s3cret"));
        assert_eq!(left.as_deref(), Some("v5.channel.k8s.io, v4.channel.k8s.io"));
        assert_eq!(taken(&["v4.channel.k8s.io"]).unwrap(), (None, Some("v4.channel.k8s.io".to_owned())));
        assert_eq!(taken(&[&token]), Err(Unreadable), "nothing is left to be chosen");
        assert_eq!(taken(&[&token, &token, "x"]), Err(Unreadable));
        assert_eq!(taken(&[&format!("{PREFIX}***"), "x"]), Err(Unreadable));
        assert_eq!(taken(&[&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("a\r\nb")), "x"]), Err(Unreadable));
    }
}

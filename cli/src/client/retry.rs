//! Which requests are sent again by themselves.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::client::retry::RetryPolicy;
use tower::BoxError;
use tower::retry::Policy;

/// The first pause where the server names none, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// A person waits for the answer.
const RETRIES_MAX: u32 = 5;

/// kube's policy, but for writes of which nobody knows whether they were done: sent again they would be refused as done
/// already, or be done twice. A request that was one too many (429) was certainly not done.
#[derive(Clone)]
pub(super) struct Retry(RetryPolicy);

impl Retry {
    pub(super) fn new() -> Self {
        let (shortest, longest) = PAUSES;
        let policy = RetryPolicy::new(shortest, longest, RETRIES_MAX, true);
        Self(policy.unwrap_or_default())
    }
}

impl<T> Policy<Request<Body>, Response<T>, BoxError> for Retry {
    type Future = tokio::time::Sleep;

    fn retry(
        &mut self,
        request: &mut Request<Body>,
        result: &mut Result<Response<T>, BoxError>,
    ) -> Option<Self::Future> {
        let refused = result.as_ref().is_ok_and(|answer| answer.status() == StatusCode::TOO_MANY_REQUESTS);
        if refused || request.method().is_safe() { self.0.retry(request, result) } else { None }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Policy::<_, Response<T>, _>::clone_request(&mut self.0, request)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[tokio::test]
    async fn what_may_have_been_done_is_not_sent_again() {
        let again = |method: Method, status: u16| {
            let mut request = Request::builder().method(method).body(Body::empty()).unwrap();
            let mut answer = Ok(Response::builder().status(status).body(()).unwrap());
            Retry::new().retry(&mut request, &mut answer).is_some()
        };
        for status in [429, 503, 504] {
            assert!(again(Method::GET, status), "{status}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(again(method.clone(), 429), "{method}: it was not done");
            assert!(!again(method.clone(), 503) && !again(method.clone(), 504), "{method}: it may have been done");
        }
        assert!(!again(Method::GET, 404) && !again(Method::GET, 500));
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_it_is_told_and_not_for_ever() {
        let began = tokio::time::Instant::now();
        let (mut policy, mut asked) = (Retry::new(), 0);
        loop {
            let mut request = Request::new(Body::empty());
            let mut answer = Ok(Response::builder().status(429).header("Retry-After", "7").body(()).unwrap());
            let Some(pause) = policy.retry(&mut request, &mut answer) else { break };
            pause.await;
            asked += 1;
        }
        assert_eq!((asked, began.elapsed().as_secs()), (RETRIES_MAX, 35));
    }
}

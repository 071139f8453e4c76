//! What an answer of the API server says in its headers, which `kube` does not pass on: warnings, and when to try again.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, Response, header};
use tower::util::MapResponseLayer;

/// How many warnings are kept of one call, and how much of each. An admission policy may write long ones.
const MAX_WARNINGS: usize = 10;
const MAX_WARNING: usize = 1000;

/// What the headers of one call have said.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub warnings: Vec<String>,
    pub retry_after: Option<Duration>,
}

tokio::task_local! {
    static HEADERS: RefCell<Headers>;
}

/// Runs a call and gives what its headers have said.
pub(super) async fn heard<T>(call: impl Future<Output = T>) -> (T, Headers) {
    let scope = HEADERS.scope(RefCell::default(), async {
        let result = call.await;
        (result, HEADERS.with(RefCell::take))
    });
    scope.await
}

/// Listens to the answers that a client gets. The future of a request is run by who makes it, so that its headers are heard there.
pub(super) fn listening<B>() -> MapResponseLayer<impl Fn(Response<B>) -> Response<B> + Clone> {
    MapResponseLayer::new(|response: Response<B>| {
        // Watches and logs do not ask.
        let _ = HEADERS.try_with(|heard| heard.borrow_mut().read(response.headers()));
        response
    })
}

impl Headers {
    fn read(&mut self, headers: &HeaderMap) {
        let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        self.retry_after = seconds.map(Duration::from_secs);
        let texts = headers.get_all(header::WARNING).iter();
        let texts = texts.filter_map(|value| warning(std::str::from_utf8(value.as_bytes()).ok()?));
        self.warnings.extend(texts.take(MAX_WARNINGS));
    }
}

/// The text of `299 - "text"` (<https://kubernetes.io/blog/2020/09/03/warnings/>).
fn warning(value: &str) -> Option<String> {
    let (_, quoted) = value.split_once('"')?;
    let mut text = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(text),
            '\\' => text.extend(characters.next()),
            other if text.len() < MAX_WARNING => text.push(other),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Response;
    use tower::{Layer, Service, ServiceExt, service_fn};

    use super::{heard, listening, warning};

    #[test]
    fn a_warning_is_unquoted() {
        assert_eq!(warning(r#"299 - "unknown field \"spec.x\"""#).unwrap(), r#"unknown field "spec.x""#);
        assert_eq!(warning("299 - nothing"), None);
        assert_eq!(warning(r#"299 - "open"#), None);
    }

    #[tokio::test]
    async fn a_call_hears_its_own_headers_only() {
        let answer = service_fn(|request: u8| async move {
            let response = Response::builder().header("warning", format!("299 - \"of {request}\""));
            Ok::<_, std::convert::Infallible>(response.header("retry-after", u64::from(request)).body(()).unwrap())
        });
        let mut service = listening().layer(answer);
        let (_, first) = heard(service.ready().await.unwrap().call(1)).await;
        let (_, second) = heard(service.ready().await.unwrap().call(2)).await;
        assert_eq!((first.warnings, first.retry_after), (vec!["of 1".to_owned()], Some(Duration::from_secs(1))));
        assert_eq!((second.warnings, second.retry_after), (vec!["of 2".to_owned()], Some(Duration::from_secs(2))));
    }
}

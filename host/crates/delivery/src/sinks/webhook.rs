//! Sink that sends webhooks: an HTTP `POST` request for each value.
//!
//! All attempts of a delivery have the same idempotency key. With a secret, requests
//! are signed as specified by <https://www.standardwebhooks.com>, with the header fields
//! `webhook-id`, `webhook-timestamp` and `webhook-signature`. The signature is `v1,` and the base64
//! of HMAC-SHA256 over `id.timestamp.body`. A receiver can detect duplicates, forgeries and replays.

use super::event_json::update_json;
use crate::{
    delivery_values::Update,
    preflight_warning::PreflightWarning,
    serial_blocking_jobs::{BlockingJobs, BlockingOperation},
    sink::{Delivered, Retry, Sink, SinkError},
};
use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use reloader_net::{
    host_client::{self, client_config, parse_url},
    secrets::Secrets,
};
use rustls::ClientConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;
use sha2::Sha256;
use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// Settings of a webhook: a `POST` request with a JSON body for each value. A response status from 200
/// to 299 confirms the delivery.
#[derive(Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookSettings {
    /// URL of the receiver: `https://…` or `http://…`. Redirects are not followed.
    #[serde(deserialize_with = "url")]
    pub url: String,
    /// Format of the body: `json`, an object with `source`, `event`, `revision` and `content`; or
    /// `cloudevents`, a CloudEvent 1.0 with this object as its data. Default: `json`.
    #[serde(default)]
    pub format: WebhookFormat,
    /// Secret that signs requests (Standard Webhooks): `whsec_` and base64, or any other string.
    /// `${env:NAME}` and `${file:PATH}` are replaced with the environment variable or the content of
    /// the file. Default: requests are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Additional header fields. `${env:NAME}` and `${file:PATH}` are replaced with the environment
    /// variable or the content of the file. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Path of a PEM file with the trusted certificate authorities. Default: the certificate
    /// authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Format of the request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// A JSON object.
    #[default]
    Json,
    /// A CloudEvent 1.0, in structured mode.
    CloudEvents,
}

impl WebhookSettings {
    /// Returns the default settings for a webhook at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            format: WebhookFormat::default(),
            secret: None,
            headers: BTreeMap::new(),
            ca: None,
        }
    }
}

/// Omits the secret and the values of the header fields.
impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("headers", &self.headers.keys())
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

fn url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_url(&text).map(|_| text).map_err(de::Error::custom)
}

/// Sink that sends a request for each value.
pub struct Webhook {
    url: Url,
    settings: WebhookSettings,
    jobs: BlockingJobs,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Returns a sink with these settings. Secrets are resolved for each request.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL or the name of a header field is invalid.
    pub fn new(settings: WebhookSettings) -> Result<Self, SinkError> {
        let url = parse_url(&settings.url)
            .map_err(|reason| SinkError::permanent(format!("`{}`: {reason}", settings.url)))?;
        for name in settings.headers.keys() {
            HeaderName::try_from(name).map_err(|_| {
                SinkError::permanent(format!("invalid header name `{name}` (`headers`)"))
            })?;
        }
        Ok(Self { url, settings, jobs: BlockingJobs::default() })
    }

    /// Returns the request body and its media type.
    fn body(&self, update: &Update, id: &str) -> (Bytes, &'static str) {
        let data = update_json(update);
        match self.settings.format {
            WebhookFormat::Json => (data.to_string().into(), "application/json"),
            WebhookFormat::CloudEvents => {
                let names: Vec<_> =
                    update.parts().iter().map(|part| part.source.as_str()).collect();
                let latest = update.parts().iter().map(|part| part.at).max().unwrap_or_default();
                let event = json!({
                    "specversion": "1.0",
                    "id": id,
                    "source": "/reloader/sources",
                    "subject": names.join(","),
                    "type": format!("reloader.{}", update.event()),
                    "time": format!("{latest:.6}"),
                    "datacontenttype": "application/json",
                    "data": data,
                });
                (event.to_string().into(), "application/cloudevents+json")
            }
        }
    }

    /// Returns the header fields and the TLS configuration of one attempt. Reads files, so it runs on
    /// a blocking thread.
    async fn prepare(
        &self,
        id: &str,
        body: &Bytes,
    ) -> Result<(HeaderMap, Option<Arc<ClientConfig>>), SinkError> {
        let needs_tls = self.url.scheme() == "https";
        let (settings, id, body) = (self.settings.clone(), id.to_owned(), body.clone());
        let reading =
            BlockingOperation::on_files("reading the files of `headers`, `secret` and `ca`");
        let preparing = self.jobs.run(reading, move |()| {
            let headers = settings.header_fields(&id, &body)?;
            let config =
                needs_tls.then(|| client_config(settings.ca.as_deref(), None)).transpose()?;
            Ok((headers, config))
        });
        let prepared: Result<_, String> =
            preparing.await.unwrap_or_else(|error| Err(error.to_string()));
        prepared.map_err(SinkError::transient)
    }

    /// Sends the request, and returns the status and the header fields of the response.
    async fn post(
        &self,
        headers: HeaderMap,
        body: Bytes,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<(StatusCode, HeaderMap), String> {
        let path = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let mut request = Request::post(path).body(Full::new(body)).map_err(|e| e.to_string())?;
        *request.headers_mut() = headers;
        let stream = host_client::connect(&self.url, tls).await?;
        host_client::exchange(
            stream,
            &host_client::authority(&self.url),
            request,
            async |response| {
                let (parts, _) = response.into_parts();
                Ok((parts.status, parts.headers))
            },
        )
        .await
    }
}

impl WebhookSettings {
    /// Returns the problems of the header fields, the secret and the certificate authorities.
    pub(crate) fn preflight(&self) -> Vec<PreflightWarning> {
        let fields = self.header_fields("", b"").err().map(|reason| match &self.secret {
            Some(_) if reason.starts_with("`secret`") => ("secret", reason),
            _ => ("headers", reason),
        });
        let ca = self.ca.as_deref().and_then(|ca| client_config(Some(ca), None).err());
        fields.into_iter().chain(ca.map(|reason| ("ca", reason))).collect()
    }

    /// Returns the header fields of a request, with secrets resolved and with the signature.
    fn header_fields(&self, id: &str, body: &[u8]) -> Result<HeaderMap, String> {
        let mut secrets = Secrets::default();
        let mut fields = HeaderMap::new();
        let value = |text: &str, name: &str| {
            HeaderValue::try_from(text).map_err(|_| format!("header `{name}`: invalid value"))
        };
        for (name, text) in &self.headers {
            let text = secrets.reveal(text).map_err(|error| format!("header `{name}`: {error}"))?;
            let header = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let mut secret = value(&text, name)?;
            secret.set_sensitive(true);
            fields.insert(header, secret);
        }
        fields.insert("idempotency-key", value(id, "idempotency-key")?);
        if let Some(secret) = &self.secret {
            let secret = secrets.reveal(secret).map_err(|error| format!("`secret`: {error}"))?;
            let now = Timestamp::now().as_second();
            fields.insert("webhook-id", value(id, "webhook-id")?);
            fields.insert("webhook-timestamp", HeaderValue::from(now));
            let signature = sign(&secret, id, now, body)?;
            fields.insert("webhook-signature", value(&signature, "webhook-signature")?);
        }
        Ok(fields)
    }
}

/// Returns the signature of a request as specified by Standard Webhooks. `timestamp` is in seconds.
fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String, String> {
    let key = Zeroizing::new(match secret.strip_prefix("whsec_") {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| "`secret`: expected base64 after `whsec_`".to_owned())?,
        None => secret.as_bytes().to_vec(),
    });
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[async_trait]
impl Sink for Webhook {
    async fn deliver(&self, update: &Update) -> Result<Delivered, SinkError> {
        let id = update.id();
        let (body, media_type) = self.body(update, &id);
        let (mut headers, tls) = self.prepare(&id, &body).await?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        let response = self.post(headers, body, tls).await;
        let (status, headers) = response.map_err(SinkError::transient)?;
        if status.is_success() {
            return Ok(Delivered::Changed);
        }
        Err(status_error(status, &headers))
    }

    fn blocking_operation(&self) -> Option<BlockingOperation> {
        self.jobs.operation()
    }
}

/// Returns the error of a response with a failure status, and whether to retry.
fn status_error(status: StatusCode, headers: &HeaderMap) -> SinkError {
    let transient =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    let message = format!("the server returned {status}");
    if status.is_redirection() {
        let hint = "redirects are not followed; hint: set `url` to the final address";
        return SinkError::permanent(format!("{message}: {hint}"));
    }
    if status.is_client_error() && !transient.contains(&status) {
        return SinkError::permanent(message);
    }
    let delay =
        headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    SinkError { message, retry: delay.map_or(Retry::Yes, Retry::After) }
}

/// Parses the header field `Retry-After`: a number of seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp();
    Some(at.duration_since(Timestamp::now()).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vector of the Standard Webhooks reference libraries.
    #[test]
    fn signature_matches_test_vector() {
        let signature = sign(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn response_status_selects_retry_policy() {
        let none = HeaderMap::new();
        let mut later = HeaderMap::new();
        later.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
        let seven = Retry::After(Duration::from_secs(7));
        for (status, headers, retry) in [
            (500, &none, Retry::Yes),
            (503, &later, seven),
            (429, &later, seven),
            (408, &none, Retry::Yes),
            (425, &none, Retry::Yes),
            (400, &later, Retry::No),
            (404, &none, Retry::No),
            (302, &none, Retry::No),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(status_error(status, headers).retry, retry, "{status}");
        }
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Wed, 21 Oct 2099 07:28:00 GMT").is_some_and(|it| it.as_secs() > 1000));
        assert_eq!(retry_after("soon"), None);
    }

    #[test]
    fn invalid_url_is_rejected_at_construction() {
        for (url, words) in [
            ("example.com", "not a URL"),
            ("ftp://example.com", "expected a URL like https://"),
            ("https://me:secret@example.com", "without a user"),
        ] {
            let error = Webhook::new(WebhookSettings::new(url)).expect_err(url);
            assert!(error.message.contains(words), "{error}");
        }
    }

    #[test]
    fn debug_output_hides_secrets() {
        let mut settings = WebhookSettings::new("https://example.com");
        settings.secret = Some("hunter2".into());
        settings.headers.insert("authorization".into(), "Bearer hunter2".into());
        let shown = format!("{settings:?}");
        assert!(shown.contains("authorization") && !shown.contains("hunter2"), "{shown}");
    }
}

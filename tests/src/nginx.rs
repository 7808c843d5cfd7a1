//! nginx servers for tests, with nchan for server-sent events and long polls.

use crate::{
    certificates::{Authority, Identity},
    free_port::free_port,
    requirements::{find_program, have, skip},
    wait::wait_until,
};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Path of the module nchan in Debian's package.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// nginx server for a directory of files and one event channel. It is killed on drop.
pub struct Nginx {
    directory: TempDir,
    port: u16,
    /// Port for TLS, if enabled.
    tls_port: Option<u16>,
    child: Child,
}

impl Nginx {
    /// Starts a server, or returns `None` if `nginx` or `nchan` is not installed.
    ///
    /// # Panics
    ///
    /// If `nginx` or `nchan` is missing and `REQUIRE_SERVERS=1` is set.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(None, "")
    }

    /// Starts a server with TLS and HTTP/2 that compresses JSON. If `clients` is given, the server
    /// requires client certificates of this authority.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    #[must_use]
    pub fn start_secure(identity: &Identity, clients: Option<&Authority>) -> Option<Self> {
        let files = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = files.path().join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let certificate = write("server.pem", &identity.certificate);
        let key = write("server.key", &identity.key);
        let mut options = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             gzip on; gzip_types application/json; gzip_min_length 1;\n"
        );
        if let Some(clients) = clients {
            let ca = write("clients.pem", &clients.pem());
            options += &format!("ssl_client_certificate {ca}; ssl_verify_client on;\n");
        }
        Self::start_with(Some(free_port()), &options)
    }

    fn start_with(tls_port: Option<u16>, options: &str) -> Option<Self> {
        if !have("nginx") {
            return None;
        }
        if !Path::new(NCHAN).exists() {
            skip("module nchan of nginx not found");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let root = directory.path().join("www");
        fs::create_dir(&root).unwrap();
        let configuration = configuration(directory.path(), &root, port, tls_port, options);
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new(find_program("nginx").unwrap())
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { directory, port, tls_port, child };
        wait_until("nginx answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(nginx)
    }

    /// Replaces a file in the served directory atomically.
    pub fn put(&self, name: &str, content: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.directory.path().join("www").join(name)).unwrap();
    }

    /// Removes a file from the served directory.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.directory.path().join("www").join(name)).unwrap();
    }

    /// Sets the modification time of a file to `seconds` before now.
    pub fn age(&self, name: &str, seconds: u64) {
        let file = fs::File::open(self.directory.path().join("www").join(name)).unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    /// Publishes an event at `/events` and returns the number of subscribers.
    pub fn publish(&self, message: &str) -> u32 {
        let length = message.len();
        self.channel("POST", &format!("Content-Length: {length}\r\n\r\n{message}"))
    }

    /// Returns the current number of subscribers at `/events`.
    #[must_use]
    pub fn subscribers(&self) -> u32 {
        self.channel("GET", "\r\n")
    }

    /// Sends a request to the publisher endpoint and returns the number of subscribers from its
    /// answer. Retries, because nchan sometimes closes the connection without an answer.
    fn channel(&self, method: &str, rest: &str) -> u32 {
        let mut answer = String::new();
        wait_until("the publisher answers", || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            answer.clear();
            write!(stream, "{method} /publish HTTP/1.0\r\nAccept: text/json\r\n{rest}").is_ok()
                && stream.read_to_string(&mut answer).is_ok()
        });
        // {"messages": 1, "requested": 0, "subscribers": 1, …}
        answer
            .split("\"subscribers\":")
            .nth(1)
            .and_then(|rest| rest.trim_start().split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|number| number.parse().ok())
            .unwrap_or_default()
    }

    /// Returns the access log, one line for each request: `GET /path status`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        log.lines().map(Into::into).collect()
    }

    /// Returns the connection log, one line for each request: number of the connection, HTTP version,
    /// content encoding, and subject of the client certificate.
    #[must_use]
    pub fn arrivals(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("arrivals.log"));
        log.unwrap_or_default().lines().map(Into::into).collect()
    }

    /// Returns the URL of a path, which begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.url_at("127.0.0.1", path)
    }

    /// Like [`url`](Self::url), with another host name of this machine.
    #[must_use]
    pub fn url_at(&self, host: &str, path: &str) -> String {
        match self.tls_port {
            Some(port) => format!("https://{host}:{port}{path}"),
            None => format!("http://{host}:{}{path}", self.port),
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // nginx runs as one process here, so no worker process remains.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(
    directory: &Path,
    root: &Path,
    port: u16,
    tls_port: Option<u16>,
    options: &str,
) -> String {
    let tls_listen =
        tls_port.map_or_else(String::new, |port| format!("listen 127.0.0.1:{port} ssl http2;"));
    let (directory, root) = (directory.display(), root.display());
    format!(
        r#"
load_module {NCHAN};
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 16384; }}
http {{
    log_format short '$request_method $uri $status';
    log_format arrival '$connection $server_protocol $sent_http_content_encoding $ssl_client_s_dn';
    access_log {directory}/access.log short;
    access_log {directory}/arrivals.log arrival;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    types {{ application/json json; text/plain txt; }}
    server {{
        listen 127.0.0.1:{port};
        {tls_listen}
        {options}
        root {root};
        location /moved {{ return 302 /app.json; }}
        location /elsewhere {{ return 302 http://127.0.0.1:1/app.json; }}
        location /to {{ return 302 $arg_url; }}
        location /echo {{ return 200 "key=$http_x_key authorization=$http_authorization"; }}
        location /refused {{ return 403; }}
        location /publish {{ nchan_publisher; nchan_channel_id app; }}
        location /events {{
            nchan_subscriber eventsource longpoll;
            nchan_channel_id app;
            nchan_subscriber_first_message newest;
        }}
    }}
}}
"#
    )
}

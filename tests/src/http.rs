//! A real nginx, with nchan for events.

use crate::{Authority, Identity, find, free_port, have, wait_until};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

/// Where Debian puts it.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// An nginx that serves a folder, and one channel of events. It is stopped when this is dropped.
pub struct Nginx {
    directory: TempDir,
    port: u16,
    /// Where it speaks TLS, if it does.
    secure: Option<u16>,
    child: Child,
}

impl Nginx {
    /// Starts one, if there is an `nginx` with `nchan` here.
    ///
    /// # Panics
    ///
    /// When there is none and `REQUIRE_SERVERS=1`.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_with(None, "")
    }

    /// Starts one that speaks TLS and HTTP/2, and compresses JSON. With `clients` it serves nobody else
    /// than those whom this authority vouches for.
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

    fn start_with(secure: Option<u16>, options: &str) -> Option<Self> {
        if !have("nginx") {
            return None;
        }
        if !Path::new(NCHAN).exists() && !have("nginx's module nchan") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let root = directory.path().join("www");
        fs::create_dir(&root).unwrap();
        let configuration = configuration(directory.path(), &root, port, secure, options);
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new(find("nginx").unwrap())
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(directory.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { directory, port, secure, child };
        wait_until("nginx answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(nginx)
    }

    /// Puts a file into the folder, by renaming.
    pub fn put(&self, name: &str, content: &str) {
        let new = self.directory.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.directory.path().join("www").join(name)).unwrap();
    }

    /// Removes a file from the folder.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.directory.path().join("www").join(name)).unwrap();
    }

    /// Sets when a file was last changed, in seconds before now.
    pub fn age(&self, name: &str, seconds: u64) {
        let file = fs::File::open(self.directory.path().join("www").join(name)).unwrap();
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        file.set_modified(then).unwrap();
    }

    /// Sends an event to whoever listens at `/events`, and gives how many there are.
    pub fn publish(&self, message: &str) -> u32 {
        let length = message.len();
        self.channel("POST", &format!("Content-Length: {length}\r\n\r\n{message}"))
    }

    /// How many listen at `/events` at this moment.
    #[must_use]
    pub fn subscribers(&self) -> u32 {
        self.channel("GET", "\r\n")
    }

    /// Talks to the channel's publisher, which answers with a description of the channel; or, now and
    /// then, cuts the connection.
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

    /// What it has been asked, one line a request: `GET /path status`.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("access.log")).unwrap_or_default();
        log.lines().map(Into::into).collect()
    }

    /// How each request arrived, one line a request: `connection protocol encoding client`.
    #[must_use]
    pub fn arrivals(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("arrivals.log"));
        log.unwrap_or_default().lines().map(Into::into).collect()
    }

    /// A URL, for a path that begins with `/`.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.url_at("127.0.0.1", path)
    }

    /// The same by another name of this machine.
    #[must_use]
    pub fn url_at(&self, host: &str, path: &str) -> String {
        match self.secure {
            Some(port) => format!("https://{host}:{port}{path}"),
            None => format!("http://{host}:{}{path}", self.port),
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It runs as one process, so this is all of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(
    directory: &Path,
    root: &Path,
    port: u16,
    secure: Option<u16>,
    options: &str,
) -> String {
    let secure =
        secure.map_or_else(String::new, |port| format!("listen 127.0.0.1:{port} ssl http2;"));
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
        {secure}
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

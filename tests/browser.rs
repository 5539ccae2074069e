//! [`Browser`]: a real Chromium, which a test controls by the DevTools protocol.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use data_encoding::BASE64;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::Child,
    time::{Instant, sleep},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{Task, in_time};

/// A headless Chromium with a profile of its own and one page. Dropping it kills the process.
///
/// Every method panics on failure, because a test cannot continue.
pub struct Browser {
    process: Child,
    _stderr: Task<()>,
    _profile: tempfile::TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    page: String,
    last_id: u64,
    problems: Vec<String>,
    is_loaded: bool,
}

/// The screen that the browser emulates.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// The width in CSS pixels.
    pub width: u32,
    /// The height in CSS pixels.
    pub height: u32,
    /// Whether the user prefers dark colours.
    pub is_dark: bool,
}

impl Browser {
    /// Starts a browser; prints a line and returns `None` if there is no Chromium on the path.
    pub async fn start() -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|program| {
            let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        }) else {
            eprintln!("SKIPPED: there is no Chromium on the path; Debian package: chromium");
            return None;
        };
        let profile = tempfile::tempdir().expect("the profile directory can be created");
        // The sandbox does not work in containers, and the browser opens only the page under test.
        let mut process = tokio::process::Command::new(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the browser starts");
        let mut stderr = BufReader::new(process.stderr.take().expect("the error output is a pipe")).lines();
        let url = in_time(async {
            loop {
                let line =
                    stderr.next_line().await.expect("the output is text").expect("the browser prints its address");
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    return url.to_owned();
                }
            }
        })
        .await;
        // Reads further output, so that the pipe does not fill.
        let stderr = Task::begin(async move { while let Ok(Some(_)) = stderr.next_line().await {} });
        let (socket, _) = connect_async(&url).await.expect("the browser listens");
        let mut browser = Self {
            process,
            _stderr: stderr,
            _profile: profile,
            socket,
            page: String::new(),
            last_id: 0,
            problems: Vec::new(),
            is_loaded: false,
        };
        let targets = browser.command("Target.getTargets", json!({})).await;
        let page = targets["targetInfos"].as_array().into_iter().flatten().find(|target| target["type"] == "page");
        let target = page.expect("the browser has a page")["targetId"].clone();
        let attached = browser.command("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        browser.page = attached["sessionId"].as_str().expect("the session has an id").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Accessibility.enable"] {
            browser.command(domain, json!({})).await;
        }
        // The window of a headless browser has no focus.
        browser.command("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
        Some(browser)
    }

    /// Shows the page on a screen of another size or color scheme.
    pub async fn show_on(&mut self, screen: Screen) {
        let Screen { width, height, is_dark } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", media).await;
    }

    /// Opens a page, and waits until the browser has loaded it.
    pub async fn open(&mut self, url: &str) {
        self.is_loaded = false;
        self.command("Page.navigate", json!({ "url": url })).await;
        in_time(async {
            while !self.is_loaded {
                let message = self.read().await;
                self.handle_event(&message);
            }
        })
        .await;
    }

    /// Returns the value of a JavaScript expression on the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.command("Runtime.evaluate", wanted).await;
        let failure = &answer["exceptionDetails"];
        assert!(failure.is_null(), "{expression}: {failure}");
        answer["result"]["value"].take()
    }

    /// Waits until a JavaScript expression is truthy.
    pub async fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.evaluate(&format!("!!({expression})")).await != json!(true) {
            if begun.elapsed() > TIMEOUT {
                let text = self.evaluate("document.body.innerText").await;
                panic!("{expression} is false after {TIMEOUT:?} on the page {text}; problems: {:?}", self.problems);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until the element that a selector matches is visible and enabled, and clicks its center.
    pub async fn click(&mut self, selector: &str) {
        let element = format!("document.querySelector({})", json!(selector));
        self.until(&format!("{element}?.checkVisibility() && !{element}.disabled")).await;
        let center = format!(
            "(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({element}.getBoundingClientRect())"
        );
        let center = self.evaluate(&center).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({ "type": kind, "x": center[0], "y": center[1], "button": "left", "clickCount": 1 });
            self.command("Input.dispatchMouseEvent", mouse).await;
        }
    }

    /// Types text into the focused element.
    pub async fn write(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key: `Enter`, `Tab` or `Escape`.
    pub async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            other => panic!("unknown key {other}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let key = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.command("Input.dispatchKeyEvent", key).await;
        }
    }

    /// Returns the roles of elements that have no accessible name for a screen reader.
    pub async fn unnamed_elements(&mut self) -> Vec<String> {
        let tree = self.command("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let is_unnamed = |node: &&Value| {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let name = node["name"]["value"].as_str().unwrap_or_default();
            node["ignored"] == false && NAMED_ROLES.contains(&role) && name.trim().is_empty()
        };
        nodes.iter().filter(is_unnamed).map(|node| node["role"]["value"].to_string()).collect()
    }

    /// Returns the errors and warnings on the console so far, except failed connections to nodes.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Writes a screenshot of the page to the directory that `MSNB_PICTURES` names; without the variable, does nothing.
    pub async fn screenshot(&mut self, name: &str) {
        let Some(directory) = env::var_os("MSNB_PICTURES") else { return };
        let shot = self.command("Page.captureScreenshot", json!({ "format": "png" })).await;
        let picture =
            BASE64.decode(shot["data"].as_str().unwrap_or_default().as_bytes()).expect("the screenshot is base64");
        fs::create_dir_all(&directory).expect("the directory can be created");
        fs::write(PathBuf::from(directory).join(format!("{name}.png")), picture)
            .expect("the screenshot can be written");
    }

    /// Closes the browser, and waits until its process ends.
    pub async fn close(mut self) {
        self.command("Browser.close", json!({})).await;
        in_time(self.process.wait()).await.expect("the browser is a child process");
    }

    async fn command(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({ "id": id, "method": method, "params": params });
        if !self.page.is_empty() && !method.starts_with("Browser.") {
            command["sessionId"] = json!(self.page);
        }
        self.socket.send(Message::text(command.to_string())).await.expect("the connection to the browser is open");
        in_time(async {
            loop {
                let mut message = self.read().await;
                if message["id"] == id {
                    assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                    return message["result"].take();
                }
                self.handle_event(&message);
            }
        })
        .await
    }

    async fn read(&mut self) -> Value {
        loop {
            match self.socket.next().await.expect("the connection is open").expect("the connection is intact") {
                Message::Text(text) => return serde_json::from_str(&text).expect("the browser sends JSON"),
                _ => continue,
            }
        }
    }

    fn handle_event(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.is_loaded = true,
            "Runtime.exceptionThrown" => self.problems.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind) => {
                self.problems.push(params["args"].to_string());
            }
            "Log.entryAdded" if is_problem(&params["entry"]) => self.problems.push(params["entry"].to_string()),
            _ => {}
        }
    }
}

/// Returns whether a log entry is an error or warning that the page causes. The page cannot prevent the entries of failed
/// WebSocket connections.
fn is_problem(entry: &Value) -> bool {
    let text = entry["text"].as_str().unwrap_or_default();
    let is_failed_connection = text.starts_with("WebSocket connection to ") && text.contains("net::ERR_CONNECTION_");
    (entry["level"] == "error" || entry["level"] == "warning") && !is_failed_connection
}

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const NAMED_ROLES: [&str; 6] = ["button", "textbox", "searchbox", "link", "dialog", "navigation"];
/// The limit of every wait for the page.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The interval between two evaluations of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

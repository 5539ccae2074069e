//! [`Browser`]: a real Chromium for one test, driven by the DevTools protocol.

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

/// A Chromium without a window, with a profile of its own and one page. It is killed when this is dropped.
///
/// Every method panics when it fails: a test has nothing else to do then.
pub struct Browser {
    process: Child,
    _said: Task<()>,
    _profile: tempfile::TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    page: String,
    last_id: u64,
    troubles: Vec<String>,
    is_loaded: bool,
}

/// What a page is shown on.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether the user prefers dark colours.
    pub is_dark: bool,
}

impl Browser {
    /// Starts a browser; `None`, and a line that says so, where there is no Chromium on the path.
    pub async fn start() -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|program| {
            let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        }) else {
            eprintln!("SKIPPED: there is no Chromium on the path; Debian has it in the package `chromium`");
            return None;
        };
        let profile = tempfile::tempdir().expect("a directory can be made");
        // Without its sandbox, which needs what containers do not give: it opens nothing but the page under test.
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
        let mut said = BufReader::new(process.stderr.take().expect("it is a pipe")).lines();
        let url = in_time(async {
            loop {
                let line = said.next_line().await.expect("it is text").expect("the browser says where it listens");
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    return url.to_owned();
                }
            }
        })
        .await;
        // Whatever else it says must not fill the pipe.
        let said = Task::begin(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let (socket, _) = connect_async(&url).await.expect("the browser listens");
        let mut browser = Self {
            process,
            _said: said,
            _profile: profile,
            socket,
            page: String::new(),
            last_id: 0,
            troubles: Vec::new(),
            is_loaded: false,
        };
        let targets = browser.command("Target.getTargets", json!({})).await;
        let page = targets["targetInfos"].as_array().into_iter().flatten().find(|target| target["type"] == "page");
        let target = page.expect("there is a page")["targetId"].clone();
        let attached = browser.command("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        browser.page = attached["sessionId"].as_str().expect("a session has an id").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Accessibility.enable"] {
            browser.command(domain, json!({})).await;
        }
        Some(browser)
    }

    /// Shows the page on another screen.
    pub async fn show_on(&mut self, screen: Screen) {
        let Screen { width, height, is_dark } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", media).await;
    }

    /// Opens a page, and waits until it is loaded.
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

    /// What an expression of JavaScript is worth on the page.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.command("Runtime.evaluate", wanted).await;
        let failure = &answer["exceptionDetails"];
        assert!(failure.is_null(), "{expression}: {failure}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    pub async fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.evaluate(&format!("!!({expression})")).await != json!(true) {
            if begun.elapsed() > PATIENCE {
                let text = self.evaluate("document.body.innerText").await;
                panic!("{expression} is not so on a page that says {text}; troubles: {:?}", self.troubles);
            }
            sleep(LOOK).await;
        }
    }

    /// Clicks into the middle of what a selector finds.
    pub async fn click(&mut self, selector: &str) {
        let found = format!("document.querySelector({})", json!(selector));
        self.until(&format!("{found}?.checkVisibility() && !{found}.disabled")).await;
        let place =
            format!("(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({found}.getBoundingClientRect())");
        let place = self.evaluate(&place).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.command("Input.dispatchMouseEvent", mouse).await;
        }
    }

    /// Types where the focus is.
    pub async fn write(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key that gives no letter: `Enter`, `Tab`, `Escape`.
    pub async fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            other => panic!("no code is known for {other}"),
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let key = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.command("Input.dispatchKeyEvent", key).await;
        }
    }

    /// Names of roles on the page whose elements a screen reader could not tell: there should be none.
    pub async fn nameless(&mut self) -> Vec<String> {
        let tree = self.command("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let is_nameless = |node: &&Value| {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let name = node["name"]["value"].as_str().unwrap_or_default();
            node["ignored"] == false && NAMED_ROLES.contains(&role) && name.trim().is_empty()
        };
        nodes.iter().filter(is_nameless).map(|node| node["role"]["value"].to_string()).collect()
    }

    /// Errors and warnings on the console so far, but for nodes that nobody can connect to.
    pub fn troubles(&self) -> &[String] {
        &self.troubles
    }

    /// Writes down how the page looks, into the directory that `MSNB_PICTURES` names, if it does.
    pub async fn picture(&mut self, name: &str) {
        let Some(directory) = env::var_os("MSNB_PICTURES") else { return };
        let shot = self.command("Page.captureScreenshot", json!({ "format": "png" })).await;
        let picture = BASE64.decode(shot["data"].as_str().unwrap_or_default().as_bytes()).expect("it is base64");
        fs::create_dir_all(&directory).expect("a directory can be made");
        fs::write(PathBuf::from(directory).join(format!("{name}.png")), picture).expect("a file can be written");
    }

    /// Ends the browser and all its processes in order.
    pub async fn close(mut self) {
        self.command("Browser.close", json!({})).await;
        in_time(self.process.wait()).await.expect("a process that was started ends");
    }

    async fn command(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut command = json!({ "id": id, "method": method, "params": params });
        if !self.page.is_empty() && !method.starts_with("Browser.") {
            command["sessionId"] = json!(self.page);
        }
        self.socket.send(Message::text(command.to_string())).await.expect("the browser listens");
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
            match self.socket.next().await.expect("the browser speaks").expect("the browser speaks") {
                Message::Text(text) => return serde_json::from_str(&text).expect("it speaks JSON"),
                _ => continue,
            }
        }
    }

    fn handle_event(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.is_loaded = true,
            "Runtime.exceptionThrown" => self.troubles.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if ["error", "warning", "assert"].iter().any(|kind| params["type"] == *kind) => {
                self.troubles.push(params["args"].to_string());
            }
            "Log.entryAdded" if is_trouble(&params["entry"]) => self.troubles.push(params["entry"].to_string()),
            _ => {}
        }
    }
}

/// Whether a page could have kept the browser from saying this; that nobody takes a WebSocket, none can.
fn is_trouble(entry: &Value) -> bool {
    let text = entry["text"].as_str().unwrap_or_default();
    let is_of_a_dead_node = text.starts_with("WebSocket connection to ") && text.contains("net::ERR_CONNECTION_");
    (entry["level"] == "error" || entry["level"] == "warning") && !is_of_a_dead_node
}

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
const NAMED_ROLES: [&str; 6] = ["button", "textbox", "searchbox", "link", "dialog", "navigation"];
/// How long a page may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

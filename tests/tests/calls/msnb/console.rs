//! `msnb console`: its pages in a real browser, and the requests that it rejects.
//!
//! With `MSNB_PICTURES=dir`, the test in the browser writes screenshots to a directory.

use std::path::Path;

use rpc_core::Registry;
use rpc_server::Server;
use serde_json::json;
use tests::{
    Task,
    browser::{Browser, Screen},
    in_time,
    program::Program,
    serving::Serving,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The first version of a contract.
mod one {
    use rpc_core::{Status, Streaming, rpc_service};
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(super) struct Good {
        pub(super) id: u64,
        pub(super) name: String,
    }

    #[derive(Debug, Serialize, Deserialize)]
    pub(super) enum StockError {
        SoldOut,
    }

    /// Knows what is in stock.
    #[rpc_service(name = "shop.Stock", version = "1.0")]
    pub(super) trait Stock {
        /// Finds goods by a part of their names.
        async fn search(&self, part: String, limit: u32, available: Option<bool>) -> Result<Vec<Good>, StockError>;
        /// Sends the quantities of a good as they change.
        async fn quantities(&self, id: u64) -> Result<Streaming<u32>, Status>;
        /// Adds quantities.
        async fn sum(&self, quantities: Streaming<u32>) -> Result<u32, Status>;
    }

    pub(super) struct Shelf;

    impl Stock for Shelf {
        async fn search(&self, part: String, limit: u32, _: Option<bool>) -> Result<Vec<Good>, StockError> {
            if part.is_empty() {
                return Err(StockError::SoldOut);
            }
            Ok((1..=u64::from(limit)).map(|id| Good { id, name: format!("{part} {id}") }).collect())
        }

        async fn quantities(&self, _: u64) -> Result<Streaming<u32>, Status> {
            // An endless stream, which the reader slows down.
            Ok(Streaming::from_iterator(0..))
        }

        async fn sum(&self, mut quantities: Streaming<u32>) -> Result<u32, Status> {
            let mut sum = 0;
            while let Some(quantity) = quantities.next().await {
                sum += quantity?;
            }
            Ok(sum)
        }
    }
}

/// A later version, whose goods have prices.
mod two {
    use rpc_core::rpc_service;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, Clone, Serialize, Deserialize)]
    pub(super) struct Good {
        pub(super) id: u64,
        pub(super) name: String,
        pub(super) cents: u32,
    }

    /// Knows what is in stock.
    #[rpc_service(name = "shop.Stock", version = "1.0")]
    pub(super) trait Stock {
        /// Finds goods by a part of their names.
        async fn search(&self, part: String, limit: u32) -> Vec<Good>;
    }

    pub(super) struct Shelf;

    impl Stock for Shelf {
        async fn search(&self, _: String, _: u32) -> Vec<Good> {
            Vec::new()
        }
    }
}

/// A console of a registry with two providers, of which the second has another contract.
struct Scene {
    console: Program,
    address: String,
    providers: Vec<Serving>,
    _directory: tempfile::TempDir,
}

impl Scene {
    async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("local:{}", directory.path().join("registry").display());
        let registry = rpc_registry::connect(&url).await.unwrap();
        let server = || Server::builder().registry(registry.clone() as std::sync::Arc<dyn Registry>);
        let mut providers = Vec::new();
        // The console compares with the first address.
        let first = Serving::start(server().service(one::StockServer::new(one::Shelf)).admin(true)).await;
        let mut second = Serving::start(server().service(two::StockServer::new(two::Shelf))).await;
        while second.address() < first.address() {
            second = Serving::start(server().service(two::StockServer::new(two::Shelf))).await;
        }
        providers.extend([first, second]);
        let all = [&["console", "--listen", "127.0.0.1:0", "--registry", &url], arguments].concat();
        let log = directory.path().join("log");
        let mut console = Program::start("msnb", &all, &[], Path::new(&log)).await;
        let address = console.line_after("http://").await;
        Self { console, address, providers, _directory: directory }
    }

    /// Sends a request, and returns the head and the body of the answer.
    async fn request(&self, head: &str, body: &str) -> (String, String) {
        request(&self.address, head, body).await
    }

    async fn status(&self, head: &str, body: &str) -> u16 {
        let (head, _) = self.request(head, body).await;
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

/// Sends a request, and returns the head and the body of the answer.
pub(super) async fn request(address: &str, head: &str, body: &str) -> (String, String) {
    let request = format!("{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(socket.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

const SCREEN: Screen = Screen { width: 1000, height: 680, is_dark: false };

/// Writes a screenshot around an element, without the temporary directory of the registry.
async fn picture(browser: &mut Browser, name: &str, selector: &str) {
    browser.evaluate("document.querySelector('.registry').textContent = 'local:'").await;
    browser.evaluate(&format!("document.querySelector('{selector}').scrollIntoView({{ block: 'center' }})")).await;
    browser.screenshot(name).await;
}

/// Clicks an element, which may be below the visible part of the page.
async fn click(browser: &mut Browser, selector: &str) {
    browser.until(&format!("document.querySelector('{selector}')")).await;
    browser.evaluate(&format!("document.querySelector('{selector}').scrollIntoView({{ block: 'center' }})")).await;
    browser.click(selector).await;
}

/// Chooses the provider that the form calls.
async fn choose(browser: &mut Browser, address: &str) {
    browser.until("document.querySelector('#address')").await;
    browser.evaluate(&format!("document.querySelector('#address').value = '{address}'")).await;
}

async fn fill(browser: &mut Browser, selector: &str, text: &str) {
    browser.evaluate(&format!("document.querySelector('{selector}').value = ''")).await;
    click(browser, selector).await;
    browser.write(text).await;
}

#[tokio::test]
async fn console_finds_describes_calls_and_streams() {
    let Some(mut browser) = Browser::start().await else { return };
    let mut scene = Scene::start(&["--allow-calls"]).await;
    browser.show_on(SCREEN).await;
    browser.open(&format!("http://{}/", scene.address)).await;
    let rows = "document.querySelectorAll('#services tbody tr').length";
    browser.until(&format!("{rows} === 1")).await;
    picture(&mut browser, "console-services", "h1").await;
    // Find the service.
    fill(&mut browser, "#q", "nothing").await;
    browser.press("Enter").await;
    browser.until("document.querySelector('#none')").await;
    fill(&mut browser, "#q", "stock").await;
    browser.press("Enter").await;
    browser.until(&format!("!document.querySelector('#none') && {rows} === 1")).await;
    browser.until("document.querySelector('#services .differs').textContent === '2 different'").await;
    click(&mut browser, "#services a").await;

    // Describe it: the second provider has another contract.
    browser.until("document.querySelector('#contract')?.textContent.includes('trait Stock')").await;
    let addresses: Vec<_> = scene.providers.iter().map(|provider| provider.address().to_string()).collect();
    let marked = "[...document.querySelectorAll('tr.differs')].map(row => row.dataset.address)";
    assert_eq!(browser.evaluate(marked).await, json!([addresses[1]]));
    let changes = browser.evaluate("document.querySelector('.differences').textContent").await.to_string();
    assert!(changes.contains("field-added: `search/result[].cents` (u32)"), "{changes}");
    assert!(changes.contains("method-removed: `quantities`"), "{changes}");
    picture(&mut browser, "console-service", "h1").await;
    click(&mut browser, "#methods a").await;

    // Call it by the form.
    browser.until("document.querySelector('#parameter-0')").await;
    fill(&mut browser, "#parameter-0", "tea").await;
    fill(&mut browser, "#parameter-1", "2").await;
    choose(&mut browser, &addresses[0]).await;
    for _ in 0..3 {
        browser.evaluate("document.querySelector('#outcome')?.remove()").await;
        click(&mut browser, "#send").await;
        browser.until("document.querySelector('#outcome.ok')").await;
    }
    let result = browser.evaluate("JSON.parse(document.querySelector('#outcome pre').textContent)").await;
    assert_eq!(result, json!([{ "id": 1, "name": "tea 1" }, { "id": 2, "name": "tea 2" }]));
    assert_eq!(browser.evaluate("document.querySelector('#parameter-0').value").await, json!("tea"));
    let points = "document.querySelector('#chart polyline').getAttribute('points').split(' ').length";
    assert_eq!(browser.evaluate(points).await, json!(3));
    picture(&mut browser, "console-method", "#outcome").await;
    fill(&mut browser, "#parameter-1", "many").await;
    click(&mut browser, "#send").await;
    browser.until("document.querySelector('#outcome.failed')?.textContent.includes('`limit` of type u32')").await;
    fill(&mut browser, "#parameter-1", "1").await;
    browser.evaluate("document.querySelector('#parameter-0').value = ''").await;
    click(&mut browser, "#send").await;
    browser.until("document.querySelector('#outcome.failed')?.textContent.includes('SoldOut')").await;

    // Watch a stream.
    browser.open(&format!("http://{}/services/shop.Stock:1.0/quantities", scene.address)).await;
    choose(&mut browser, &addresses[0]).await;
    click(&mut browser, "#send").await;
    browser.until("document.querySelectorAll('#items-list li').length > 10").await;
    picture(&mut browser, "console-stream", "#stream").await;
    click(&mut browser, "#stop").await;
    browser.until("document.querySelector('#state').textContent === 'stopped'").await;

    // Send a stream.
    browser.open(&format!("http://{}/services/shop.Stock:1.0/sum", scene.address)).await;
    fill(&mut browser, "#items", "1\n2\n3").await;
    choose(&mut browser, &addresses[0]).await;
    click(&mut browser, "#send").await;
    browser.until("document.querySelector('#outcome.ok pre')?.textContent === '6'").await;

    // The page of the service follows the counters of the server.
    browser.open(&format!("http://{}/services/shop.Stock:1.0", scene.address)).await;
    let cell = |method: &str, column: u8| {
        format!("document.querySelector('#calls tr[data-method={method}] td:nth-child({column})').textContent")
    };
    browser.until("document.querySelector('#calls')").await;
    assert_eq!(browser.evaluate("document.querySelectorAll('#servers tbody tr').length").await, json!(1));
    let problem = browser.evaluate("document.querySelector('#counters .problem').textContent").await;
    assert_eq!(problem, json!(format!("{}: it does not serve msnb.Admin:1.0", addresses[1])));
    assert_eq!(browser.evaluate(&cell("search", 2)).await, json!("4"));
    assert_eq!(browser.evaluate(&cell("search", 5)).await, json!("1"), "the service's own errors");
    let client = crate::caller();
    let provider = scene.providers[0].address();
    let calls = Task::begin(async move {
        let stock = one::StockClient::new(client);
        loop {
            stock.search("tea".into(), 2, None).address(provider).await.unwrap();
            // Other tasks of this thread read the answers of the browser.
            tokio::task::yield_now().await;
        }
    });
    browser.until("document.querySelector('#counters svg.latencies polyline.p99')?.getAttribute('points')").await;
    browser.until(&format!("Number({}) > 100", cell("search", 2))).await;
    browser.until(&format!("Number({}) > 0", cell("search", 3))).await;
    picture(&mut browser, "console-counters", "#counters").await;
    calls.abort().await;

    // The page of the service follows the registry.
    let providers = "document.querySelectorAll('#providers tbody tr').length";
    browser.until(&format!("{providers} === 2")).await;
    let mut left = scene.providers.pop().unwrap();
    left.stop();
    in_time(left.ended()).await.unwrap();
    browser.until(&format!("{providers} === 1")).await;
    assert_eq!(browser.unnamed_elements().await, Vec::<String>::new());
    assert_eq!(browser.problems(), Vec::<String>::new());
    browser.close().await;
    assert!(scene.console.terminate().await.success());
}

#[tokio::test]
async fn console_rejects_requests_of_other_sites() {
    let scene = Scene::start(&["--allow-calls"]).await;
    let address = &scene.address;
    let page = "/services/shop.Stock:1.0/search";
    let (head, body) = scene.request(&format!("GET {page} HTTP/1.1\r\nHost: {address}"), "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"), "{head}");
    assert!(!body.contains(" style=") && !body.contains("onclick") && !body.contains("<script>"), "{body}");
    let token = body.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let provider = scene.providers[0].address();
    let form = |token: &str| format!("token={token}&parameter-0=tea&parameter-1=1&address={provider}");
    let post = |host: &str, more: &str| {
        let kind = "Content-Type: application/x-www-form-urlencoded";
        format!("POST {page} HTTP/1.1\r\nHost: {host}\r\n{kind}{more}")
    };
    let (head, body) = scene.request(&post(address, ""), &form(token)).await;
    assert!(head.starts_with("HTTP/1.1 200") && body.contains("tea 1"), "{body}");
    for (head, form, status) in [
        (post("evil.example:8870", ""), form(token), 403),
        (post(address, "\r\nOrigin: http://evil.example"), form(token), 403),
        (post(address, "\r\nSec-Fetch-Site: cross-site"), form(token), 403),
        (post(address, ""), form("0123"), 403),
        (post(address, ""), "parameter-0=tea".to_owned(), 403),
        (post(address, ""), "a=".to_owned() + &"b".repeat(1 << 20), 413),
        (format!("GET {page} HTTP/1.1\r\nHost: evil.example:8870"), String::new(), 403),
        (format!("GET /missing HTTP/1.1\r\nHost: {address}"), String::new(), 404),
        (format!("GET /services/none HTTP/1.1\r\nHost: {address}"), String::new(), 404),
        (format!("GET /services/a.None:1 HTTP/1.1\r\nHost: {address}"), String::new(), 503),
        (format!("GET /services/shop.Stock:1.0/none HTTP/1.1\r\nHost: {address}"), String::new(), 404),
    ] {
        assert_eq!(scene.status(&head, &form).await, status, "{head}");
    }
}

#[tokio::test]
async fn read_only_console_makes_no_calls() {
    let scene = Scene::start(&["--timeout", "1s"]).await;
    let address = &scene.address;
    let page = "/services/shop.Stock:1.0/search";
    let (_, body) = scene.request(&format!("GET {page} HTTP/1.1\r\nHost: {address}"), "").await;
    assert!(body.contains("read-only") && !body.contains("<form"), "{body}");
    for path in [page.to_owned(), format!("{page}/stream")] {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded");
        let (head, body) = scene.request(&head, "token=0&parameter-0=a&parameter-1=1").await;
        assert!(head.starts_with("HTTP/1.1 403") && body.contains("--allow-calls"), "{head}: {body}");
    }
    // A name on the wire is text, and no markup.
    let script = "/?q=%3Cscript%3E";
    let (_, body) = scene.request(&format!("GET {script} HTTP/1.1\r\nHost: {address}"), "").await;
    assert!(body.contains("&#60;script&#62;") && !body.contains("<script>"), "{body}");
    let (code, _, stderr) = super::msnb(&["console", "--listen", address]).await;
    assert!(code == 2 && stderr.contains("cannot listen on"), "{stderr}");
}

//! The limits of users, which hold over all of their sessions.

use std::time::Instant;

use rpc_im::{
    edge::EdgeConfig,
    envelope::{
        Ack, ChangeMembers, ClientFrame, Create, Encoding, Error, MemberChange, Names, Ping, ServerFrame, Sync, code,
    },
};
use tests::im_edge::{Edges, RawClient};

use super::{assert_serves, send, send_until_acked};

/// Logs a device of a user in at the first node.
async fn enter(edges: &Edges, user: &str, device: &str) -> RawClient {
    let mut client = edges.connect_websocket(0, Encoding::Json).await;
    client.log_in(edges.token(user, device).await).await;
    client
}

/// Sends a request, and waits for its answer: whether the node accepts it, or the error.
async fn request(client: &mut RawClient, id: &str, frame: ClientFrame) -> Result<(), Error> {
    client.send_frame(frame).await;
    client
        .until(|frame| match frame {
            ServerFrame::SendAck(ack) if ack.id == id => Some(Ok(())),
            ServerFrame::Conversation(answer) if answer.id.as_deref() == Some(id) => Some(Ok(())),
            ServerFrame::Error(error) if error.id.as_deref() == Some(id) => Some(Err(error.clone())),
            _ => None,
        })
        .await
}

async fn create(client: &mut RawClient, id: &str, members: &[&str]) -> Result<(), Error> {
    let members = members.iter().map(|member| (*member).to_owned()).collect();
    request(client, id, ClientFrame::Create(Create { id: id.to_owned(), members, ..Create::default() })).await
}

#[tokio::test]
async fn rate_of_user_holds_over_all_sessions() {
    // With a rate of 0, the burst is not replenished.
    let edges = Edges::start(1, EdgeConfig::default().with_rate(0, 40)).await;
    let mut accepted = 0;
    for number in 0..5 {
        let mut session = enter(&edges, "ann", &format!("device-{number}")).await;
        for message in 0..10 {
            let id = format!("{number}-{message}");
            match request(&mut session, &id, send(&id, "bo", "x")).await {
                Ok(()) => accepted += 1,
                Err(error) => assert_eq!(error.code, code::TOO_MANY),
            }
        }
    }
    assert_eq!(accepted, 40);
    let mut bystander = enter(&edges, "cy", "phone").await;
    send_until_acked(&mut bystander, "1", "bo", "x").await;
}

#[tokio::test]
async fn groups_with_a_victim_are_limited() {
    let config = EdgeConfig::default().with_groups_per_hour(5).with_additions_of_user_per_day(8);
    let edges = Edges::start(1, config).await;
    let mut created = 0;
    for attacker in ["eve", "mallory", "trudy"] {
        // Another session does not help.
        for device in ["one", "other"] {
            let mut session = enter(&edges, attacker, device).await;
            for number in 0..5 {
                match create(&mut session, &format!("{device}-{number}"), &["victim"]).await {
                    Ok(()) => created += 1,
                    Err(error) => assert_eq!(error.code, code::QUOTA, "{}", error.message),
                }
            }
        }
    }
    assert_eq!(created, 8, "5 of the first attacker, and 3 of the others");
    let mut victim = edges.enter(0, "victim").await;
    victim.send_frame(ClientFrame::Sync(Sync::default())).await;
    let mut groups = 0;
    while victim.until(|frame| Some(matches!(frame, ServerFrame::Conversation(_)))).await {
        groups += 1;
    }
    assert_eq!(groups, created);
    // The victim itself still creates groups and joins them.
    create(&mut victim, "1", &["ann"]).await.unwrap();
}

#[tokio::test]
async fn additions_of_user_are_limited() {
    let edges = Edges::start(1, EdgeConfig::default().with_additions_per_hour(10)).await;
    let mut ann = edges.enter(0, "ann").await;
    ann.send_frame(ClientFrame::Create(Create { id: "0".to_owned(), ..Create::default() })).await;
    let conversation = ann.until(|frame| match frame {
        ServerFrame::Conversation(answer) => Some(answer.conversation.clone()),
        _ => None,
    });
    let conversation = conversation.await;
    let add = |id: &str, count: usize| {
        let users = (0..count).map(|number| format!("user-{id}-{number}")).collect();
        let (id, conversation) = (id.to_owned(), conversation.clone());
        ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change: Some(MemberChange::Add(Names { users })) })
    };
    assert_eq!(request(&mut ann, "1", add("1", 11)).await.unwrap_err().code, code::QUOTA);
    request(&mut ann, "2", add("2", 9)).await.unwrap();
    assert_eq!(create(&mut ann, "3", &["a", "b"]).await.unwrap_err().code, code::QUOTA);
    create(&mut ann, "4", &["a"]).await.unwrap();
}

#[tokio::test]
async fn bytes_of_user_are_limited() {
    let edges = Edges::start(1, EdgeConfig::default().with_bytes_per_day(100_000)).await;
    let body = "x".repeat(29_800);
    for device in ["one", "other"] {
        let mut session = enter(&edges, "ann", device).await;
        // A message counts 200 bytes besides its body.
        for number in 0..3 {
            let answer = request(&mut session, &number.to_string(), send(number, "bo", &*body)).await;
            match device {
                "one" => answer.unwrap(),
                _ => assert_eq!(answer.unwrap_err().code, code::QUOTA),
            }
        }
    }
    let mut bystander = edges.enter(0, "bo").await;
    send_until_acked(&mut bystander, "1", "ann", &body).await;
}

#[tokio::test]
async fn flood_of_reports_is_read_slowly() {
    const COUNT: u64 = 3000;
    let edges = Edges::start(1, EdgeConfig::default()).await;
    let mut bystander = edges.enter(0, "bo").await;
    let mut flooder = edges.enter(0, "ann").await;
    let start = Instant::now();
    for seq in 0..COUNT {
        flooder.send_frame(ClientFrame::Ack(Ack { conversation: "c".to_owned(), seq })).await;
    }
    assert_serves(&edges, &mut bystander).await;
    flooder.send_frame(ClientFrame::Ping(Ping {})).await;
    flooder.until(|frame| matches!(frame, ServerFrame::Pong(_)).then_some(())).await;
    // 1000 frames at once, and 1000 in a second.
    let limit = 1002.0 + start.elapsed().as_secs_f64() * 1000.0;
    assert!((COUNT as f64) < limit, "{COUNT} frames were read, limit is {limit}");
}

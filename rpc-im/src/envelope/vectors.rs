//! Test vectors: golden frames in both encodings, limits, and invalid frames.

use std::collections::BTreeMap;

use super::*;

/// Returns each client frame with its JSON, and with its protobuf in hexadecimal digits as protoc encodes it.
fn client_frames() -> Vec<(ClientFrame, &'static str, &'static str)> {
    let to_user = Send { id: "c-17".into(), to: Some(Recipient::User("bo".into())), body: "hi".into() };
    let to = Recipient::Conversation("g-1".into());
    let to_conversation = Send { id: "c-18".into(), to: Some(to), body: "\"ü\"\n".into() };
    let members = vec!["bo".into(), "cy".into()];
    let cursors = BTreeMap::from([("a".into(), Position { incarnation: u64::MAX, seq: 41 })]);
    let id = "c-20".to_owned();
    let change = |change| {
        let (id, conversation) = ("c-20".into(), "g-1".into());
        ClientFrame::ChangeMembers(ChangeMembers { id, conversation, change: Some(change) })
    };
    vec![
        (ClientFrame::Auth(Auth { token: "t.o.k".into() }), r#"{"type":"auth","token":"t.o.k"}"#, "0a070a05742e6f2e6b"),
        (
            ClientFrame::Send(to_user),
            r#"{"type":"send","id":"c-17","to":{"user":"bo"},"body":"hi"}"#,
            "120e0a04632d31371202626f22026869",
        ),
        (
            ClientFrame::Send(to_conversation),
            r#"{"type":"send","id":"c-18","to":{"conversation":"g-1"},"body":"\"ü\"\n"}"#,
            "12120a04632d31381a03672d31220522c3bc220a",
        ),
        (
            ClientFrame::Ack(Ack { conversation: "g-1".into(), seq: 41 }),
            r#"{"type":"ack","conversation":"g-1","seq":41}"#,
            "1a070a03672d311029",
        ),
        (
            ClientFrame::Sync(Sync { cursors, recent: 50, ..Sync::default() }),
            r#"{"type":"sync","cursors":{"a":{"incarnation":"18446744073709551615","seq":41}},"recent":50}"#,
            "22140a100a0161120b09ffffffffffffffff10291032",
        ),
        (
            ClientFrame::Sync(Sync { after: "a".into(), until: "b".into(), id: Some("c-1".into()), ..Sync::default() }),
            r#"{"type":"sync","cursors":{},"recent":0,"after":"a","until":"b","id":"c-1"}"#,
            "220b1a01612201622a03632d31",
        ),
        (ClientFrame::Ping(Ping {}), r#"{"type":"ping"}"#, "2a00"),
        (ClientFrame::Pong(Pong {}), r#"{"type":"pong"}"#, "3200"),
        (
            ClientFrame::Create(Create { id: "c-19".into(), name: "lunch".into(), members, open: true }),
            r#"{"type":"create","id":"c-19","name":"lunch","members":["bo","cy"],"open":true}"#,
            "3a170a04632d313912056c756e63681a02626f1a0263792001",
        ),
        (
            ClientFrame::Read(Read { conversation: "g-1".into(), seq: 41 }),
            r#"{"type":"read","conversation":"g-1","seq":41}"#,
            "42070a03672d311029",
        ),
        (
            ClientFrame::History(HistoryRequest { id: id.clone(), conversation: "g-1".into(), before: 41, limit: 20 }),
            r#"{"type":"history","id":"c-20","conversation":"g-1","before":41,"limit":20}"#,
            "4a0f0a04632d32301203672d3118292014",
        ),
        (
            ClientFrame::Edit(Edit { id: id.clone(), conversation: "g-1".into(), target: 41, body: "ho".into() }),
            r#"{"type":"edit","id":"c-20","conversation":"g-1","target":41,"body":"ho"}"#,
            "52110a04632d32301203672d3118292202686f",
        ),
        (
            ClientFrame::Recall(Recall { id: id.clone(), conversation: "g-1".into(), target: 41 }),
            r#"{"type":"recall","id":"c-20","conversation":"g-1","target":41}"#,
            "5a0d0a04632d32301203672d311829",
        ),
        (
            change(MemberChange::Join(true)),
            r#"{"type":"change_members","id":"c-20","conversation":"g-1","change":{"join":true}}"#,
            "620d0a04632d32301203672d311801",
        ),
        (
            change(MemberChange::Leave(true)),
            r#"{"type":"change_members","id":"c-20","conversation":"g-1","change":{"leave":true}}"#,
            "620d0a04632d32301203672d312001",
        ),
        (
            change(MemberChange::Add(Names { users: vec!["bo".into()] })),
            r#"{"type":"change_members","id":"c-20","conversation":"g-1","change":{"add":{"users":["bo"]}}}"#,
            "62110a04632d32301203672d312a040a02626f",
        ),
        (
            change(MemberChange::Remove("bo".into())),
            r#"{"type":"change_members","id":"c-20","conversation":"g-1","change":{"remove":"bo"}}"#,
            "620f0a04632d32301203672d313202626f",
        ),
        (
            change(MemberChange::SetRole(SetRole { user: "bo".into(), role: "admin".into() })),
            r#"{"type":"change_members","id":"c-20","conversation":"g-1","change":{"set_role":{"user":"bo","role":"admin"}}}"#,
            "62180a04632d32301203672d313a0b0a02626f120561646d696e",
        ),
        (
            ClientFrame::ListMembers(ListMembers { id, conversation: "g-1".into(), after: "bo".into() }),
            r#"{"type":"list_members","id":"c-20","conversation":"g-1","after":"bo"}"#,
            "6a0f0a04632d32301203672d311a02626f",
        ),
    ]
}

/// Returns each server frame with its JSON, and with its protobuf in hexadecimal digits as protoc encodes it.
fn server_frames() -> Vec<(ServerFrame, &'static str, &'static str)> {
    let (name, time) = ("ann:bo".to_owned(), 1_700_000_000_000);
    let push = Push {
        conversation: name.clone(),
        incarnation: 7,
        seq: 42,
        from: "ann".into(),
        time,
        kind: 2,
        target: 41,
        changed: true,
        body: "hi".into(),
    };
    let conversation = Conversation {
        id: None,
        conversation: name.clone(),
        incarnation: 7,
        name: String::new(),
        group: false,
        open: false,
        count: 2,
        members: vec!["ann".into(), "bo".into()],
        role: "member".into(),
        first: 1,
        seq: 42,
        read: 40,
        unread: 2,
        after: 41,
    };
    let member = MemberState { user: "bo".into(), role: "admin".into(), delivered: 42, read: 41 };
    vec![
        (
            ServerFrame::AuthOk(AuthOk { user: "ann".into(), session: 1 << 63, node: "n1".into() }),
            r#"{"type":"auth_ok","user":"ann","session":"9223372036854775808","node":"n1"}"#,
            "0a120a03616e6e1100000000000000801a026e31",
        ),
        (
            ServerFrame::SendAck(SendAck {
                id: "c-17".into(),
                conversation: name.clone(),
                incarnation: 7,
                seq: 42,
                time,
            }),
            r#"{"type":"send_ack","id":"c-17","conversation":"ann:bo","incarnation":"7","seq":42,"time":1700000000000}"#,
            "12200a04632d31371206616e6e3a626f190700000000000000202a2880d095ffbc31",
        ),
        (
            ServerFrame::Push(Push { kind: 0, target: 0, changed: false, ..push.clone() }),
            r#"{"type":"push","conversation":"ann:bo","incarnation":"7","seq":42,"from":"ann","time":1700000000000,"kind":"text","body":"hi"}"#,
            "1a230a06616e6e3a626f110700000000000000182a2203616e6e2880d095ffbc314a026869",
        ),
        (
            ServerFrame::Push(push.clone()),
            r#"{"type":"push","conversation":"ann:bo","incarnation":"7","seq":42,"from":"ann","time":1700000000000,"kind":"edit","target":41,"changed":true,"body":"hi"}"#,
            "1a290a06616e6e3a626f110700000000000000182a2203616e6e2880d095ffbc313002382940014a026869",
        ),
        (
            ServerFrame::Kick(Kick { reason: "replaced".into() }),
            r#"{"type":"kick","reason":"replaced"}"#,
            "220a0a087265706c61636564",
        ),
        (
            ServerFrame::Reconnect(Reconnect { nodes: vec!["ws://h:1/ws".into()], within_ms: 300 }),
            r#"{"type":"reconnect","nodes":["ws://h:1/ws"],"within_ms":300}"#,
            "2a100a0b77733a2f2f683a312f777310ac02",
        ),
        (
            ServerFrame::Lagging(Lagging { conversation: name.clone(), seq: 42 }),
            r#"{"type":"lagging","conversation":"ann:bo","seq":42}"#,
            "320a0a06616e6e3a626f102a",
        ),
        (
            ServerFrame::error(Some("c-17".into()), code::TOO_MANY, "slower"),
            r#"{"type":"error","id":"c-17","code":"too_many","message":"slower"}"#,
            "3a180a04632d31371208746f6f5f6d616e791a06736c6f776572",
        ),
        (
            ServerFrame::error(None, code::UNAUTHENTICATED, "no"),
            r#"{"type":"error","code":"unauthenticated","message":"no"}"#,
            "3a15120f756e61757468656e746963617465641a026e6f",
        ),
        (ServerFrame::Ping(Ping {}), r#"{"type":"ping"}"#, "4200"),
        (ServerFrame::Pong(Pong {}), r#"{"type":"pong"}"#, "4a00"),
        (
            ServerFrame::Conversation(conversation),
            r#"{"type":"conversation","conversation":"ann:bo","incarnation":"7","name":"","group":false,"open":false,"count":2,"members":["ann","bo"],"role":"member","first":1,"seq":42,"read":40,"unread":2,"after":41}"#,
            "522e1206616e6e3a626f19070000000000000038024203616e6e4202626f4a066d656d6265725001582a602868027029",
        ),
        (
            ServerFrame::Presence(Presence { user: "bo".into(), online: true }),
            r#"{"type":"presence","user":"bo","online":true}"#,
            "5a060a02626f1001",
        ),
        (
            ServerFrame::Receipt(Receipt { conversation: name.clone(), user: "bo".into(), delivered: 42, read: 41 }),
            r#"{"type":"receipt","conversation":"ann:bo","user":"bo","delivered":42,"read":41}"#,
            "62100a06616e6e3a626f1202626f182a2029",
        ),
        (
            ServerFrame::History(History {
                id: "c-20".into(),
                conversation: name.clone(),
                first: 1,
                messages: vec![push],
            }),
            r#"{"type":"history","id":"c-20","conversation":"ann:bo","first":1,"messages":[{"conversation":"ann:bo","incarnation":"7","seq":42,"from":"ann","time":1700000000000,"kind":"edit","target":41,"changed":true,"body":"hi"}]}"#,
            "6a3b0a04632d32301206616e6e3a626f180122290a06616e6e3a626f110700000000000000182a2203616e6e2880d095ffbc313002382940014a026869",
        ),
        (
            ServerFrame::Members(Members { id: "c-20".into(), conversation: name, members: vec![member] }),
            r#"{"type":"members","id":"c-20","conversation":"ann:bo","members":[{"user":"bo","role":"admin","delivered":42,"read":41}]}"#,
            "721f0a04632d32301206616e6e3a626f1a0f0a02626f120561646d696e182a2029",
        ),
        (
            ServerFrame::Synced(Synced {
                id: Some("c-1".into()),
                after: "b".into(),
                more: true,
                gone: vec!["a".into()],
            }),
            r#"{"type":"synced","id":"c-1","after":"b","more":true,"gone":["a"]}"#,
            "7a0d0a03632d311201621801220161",
        ),
    ]
}

#[test]
fn client_frames_match_golden_bytes() {
    for (frame, json, protobuf) in client_frames() {
        assert_eq!(frame.to_json(), json);
        assert_eq!(hex(&frame.to_protobuf()), protobuf, "{json}");
        assert_eq!(ClientFrame::from_json(json).unwrap(), frame);
        assert_eq!(ClientFrame::from_protobuf(&frame.to_protobuf()).unwrap(), frame);
    }
}

#[test]
fn server_frames_match_golden_bytes() {
    for (frame, json, protobuf) in server_frames() {
        assert_eq!(frame.to_json(), json);
        assert_eq!(hex(&frame.to_protobuf()), protobuf, "{json}");
        assert_eq!(ServerFrame::from_json(json).unwrap(), frame);
        assert_eq!(ServerFrame::from_protobuf(&frame.to_protobuf()).unwrap(), frame);
    }
}

#[test]
fn decoder_rejects_every_truncation() {
    for (frame, json, _) in client_frames() {
        for end in (0..json.len()).filter(|end| json.is_char_boundary(*end)) {
            assert!(ClientFrame::from_json(&json[..end]).is_err(), "{json} to {end}");
        }
        let bytes = frame.to_protobuf();
        for end in 0..bytes.len() {
            assert!(ClientFrame::from_protobuf(&bytes[..end]).is_err(), "{json} to {end}");
        }
    }
}

#[test]
fn decoder_ignores_unknown_fields() {
    let frame = ClientFrame::from_json(r#"{"type":"ping","at":17}"#).unwrap();
    assert_eq!(frame, ClientFrame::Ping(Ping {}));
    // Field 1000 (a varint), then field 5.
    let frame = ClientFrame::from_protobuf(&[0xc0, 0x3e, 0x01, 0x2a, 0x00]).unwrap();
    assert_eq!(frame, ClientFrame::Ping(Ping {}));
    assert!(matches!(
        ClientFrame::from_protobuf(&[0xc0, 0x3e, 0x01]),
        Err(BadFrame { id: None, error: FrameError::Unknown })
    ));
}

#[test]
fn decoder_accepts_limits_and_rejects_one_above() {
    let send = |id: &str, user: &str| {
        let send = Send { id: id.into(), to: Some(Recipient::User(user.into())), body: String::new() };
        ClientFrame::from_json(&ClientFrame::Send(send).to_json())
    };
    let longest = "n".repeat(MAX_NAME);
    let longer = "n".repeat(MAX_NAME + 1);
    assert!(send(&longest, &longest).is_ok());
    assert_eq!(send(&longer, "bo").unwrap_err().to_string(), "id is 129 bytes, limit is 128");
    assert_eq!(send("1", &longer).unwrap_err().to_string(), "to.user is 129 bytes, limit is 128");
    assert_eq!(send("", "bo").unwrap_err().to_string(), "id is missing");
    assert_eq!(send("1", "b\no").unwrap_err().to_string(), "to.user contains control characters");

    let sync = |count: usize| {
        let cursors = (0..count).map(|number| (number.to_string(), Position::default())).collect();
        ClientFrame::from_protobuf(&ClientFrame::Sync(Sync { cursors, ..Sync::default() }).to_protobuf())
    };
    assert!(sync(MAX_CURSORS).is_ok());
    assert_eq!(sync(MAX_CURSORS + 1).unwrap_err().to_string(), "cursors has 1025 entries, limit is 1024");

    let create = |count: usize| {
        let create = Create { id: "1".into(), members: vec!["bo".into(); count], ..Create::default() };
        ClientFrame::from_protobuf(&ClientFrame::Create(create).to_protobuf())
    };
    assert!(create(MAX_MEMBERS).is_ok());
    assert_eq!(create(MAX_MEMBERS + 1).unwrap_err().to_string(), "members has 1001 entries, limit is 1000");
}

#[test]
fn decoder_rejects_invalid_frames_with_a_reason() {
    for text in ["", "7", "[]", "{}", r#"{"type":"shout"}"#, r#"{"type":"send","id":"1"}"#, &"[".repeat(100_000)] {
        assert!(matches!(ClientFrame::from_json(text), Err(BadFrame { error: FrameError::Json(_), .. })), "{text:.20}");
    }
    for id in ["7", "\"\"", "\"-1\"", "\"18446744073709551616\""] {
        let text = format!(r#"{{"type":"sync","cursors":{{"c":{{"incarnation":{id},"seq":1}}}}}}"#);
        assert!(ClientFrame::from_json(&text).is_err(), "{id}");
    }
    let no_recipient = ClientFrame::Send(Send { id: "1".into(), to: None, body: String::new() });
    assert_eq!(ClientFrame::from_protobuf(&no_recipient.to_protobuf()).unwrap_err().to_string(), "to is missing");
}

#[test]
fn debug_omits_tokens_and_bodies() {
    let auth = ClientFrame::Auth(Auth { token: "secret".into() });
    let send = ClientFrame::Send(Send { id: "1".into(), to: None, body: "secret".into() });
    let push = Push { from: "ann".into(), body: "secret".into(), ..Push::default() };
    let edit = ClientFrame::Edit(Edit { body: "secret".into(), ..Edit::default() });
    for text in
        [format!("{auth:?}"), format!("{send:?}"), format!("{edit:?}"), format!("{:?}", ServerFrame::Push(push))]
    {
        assert!(!text.contains("secret"), "{text}");
    }
}

/// `proto/im.proto` must declare as many frames as this module.
///
/// Other languages generate their code from it.
#[test]
fn proto_file_declares_every_frame() {
    let proto = include_str!("../../proto/im.proto");
    // Some types of frames have several vectors.
    let frames = [("ClientFrame", client_frames().len() - 6), ("ServerFrame", server_frames().len() - 2)];
    for (message, count) in frames {
        let (_, body) = proto.split_once(&format!("message {message} {{")).unwrap();
        let body = body.split_once("\n}\n").unwrap().0;
        assert_eq!(body.matches(" = ").count(), count, "{message}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

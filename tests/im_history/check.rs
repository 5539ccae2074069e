//! [`check`]: the guarantees of the cluster, checked on the observations of its clients.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    time::Duration,
};

use super::{Event, Place, Read};

/// A broken guarantee.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A new device of a member did not receive an acknowledged message.
    Lost {
        /// The member.
        user: String,
        /// The message.
        body: String,
    },
    /// A message is at two places.
    Doubled {
        /// The message.
        body: String,
        /// One of the places.
        one: Place,
        /// The other one.
        other: Place,
    },
    /// Two messages are at one place.
    Conflict {
        /// The place.
        place: Place,
        /// One of the messages.
        one: String,
        /// The other one.
        other: String,
    },
    /// The sequence numbers that a new device received are not 1 to the last one, in order.
    Hole {
        /// The user.
        user: String,
        /// The conversation.
        conversation: String,
        /// The received sequence numbers around the first gap or repetition.
        received: Vec<u64>,
        /// The last sequence number of the conversation.
        last: u64,
    },
    /// A conversation has two incarnations, although no backup was restored.
    TwoHistories {
        /// The conversation.
        conversation: String,
    },
    /// A message was stored that no client sent, or that a node had rejected.
    Invented {
        /// The message.
        body: String,
    },
    /// Several clients have a session of one device.
    TwoSessions {
        /// The user.
        user: String,
        /// The device.
        device: String,
        /// The number of sessions.
        count: usize,
    },
    /// A client with a session has not received a message that was acknowledged after its session began.
    Deaf {
        /// The client.
        client: u32,
        /// Its user.
        user: String,
        /// The message.
        body: String,
        /// Whether a node told it, after the message was sent, that it may have missed messages.
        told: bool,
    },
}

/// Checks the guarantees after all faults have ended, and after all clients have stopped sending.
pub fn check(events: &[(Duration, Event)], reads: &[Read]) -> Vec<Violation> {
    let mut violations = places(events, reads);
    violations.extend(stored(events, reads));
    violations.extend(open_twice(events));
    violations.extend(undelivered(events, Duration::MAX));
    violations.into_iter().collect()
}

/// Finds devices with several sessions.
pub fn open_twice(events: &[(Duration, Event)]) -> Vec<Violation> {
    let mut devices = BTreeMap::<_, usize>::new();
    for Session { user, device, .. } in open(events).into_values() {
        *devices.entry((user, device)).or_default() += 1;
    }
    let several = devices.into_iter().filter(|(_, count)| *count > 1);
    several
        .map(|((user, device), count)| Violation::TwoSessions {
            user: user.to_owned(),
            device: device.to_owned(),
            count,
        })
        .collect()
}

/// Finds clients with a session that have missed a message which was acknowledged before `limit`, at most one message of
/// each client.
pub fn undelivered(events: &[(Duration, Event)], limit: Duration) -> Vec<Violation> {
    let sessions = open(events);
    let mut members = HashMap::new();
    let mut received = HashSet::new();
    let mut lagging = HashMap::new();
    for (at, event) in events {
        match event {
            Event::Invoked { body, members: of } => drop(members.entry(body).or_insert((of, *at))),
            Event::Pushed { client, body, .. } => drop(received.insert((*client, body))),
            Event::Lagging { client } => drop(lagging.insert(*client, *at)),
            _ => {}
        }
    }
    let mut deaf = BTreeMap::new();
    for (at, event) in events.iter().take_while(|(at, _)| *at < limit) {
        let Event::Acknowledged { client: sender, body, .. } = event else { continue };
        let Some((members, invoked)) = members.get(body) else { continue };
        for (client, session) in &sessions {
            // A sender receives the acknowledgement instead of the message.
            let expects = client != sender && session.since <= *at && members.contains(session.user);
            if expects && !received.contains(&(*client, body)) {
                let told = lagging.get(client).is_some_and(|last| last >= invoked);
                let (user, body) = (session.user.to_owned(), body.clone());
                deaf.entry(*client).or_insert(Violation::Deaf { client: *client, user, body, told });
            }
        }
    }
    deaf.into_values().collect()
}

/// A session that has not ended.
struct Session<'a> {
    user: &'a str,
    device: &'a str,
    since: Duration,
}

fn open(events: &[(Duration, Event)]) -> BTreeMap<u32, Session<'_>> {
    let mut sessions = BTreeMap::new();
    for (since, event) in events {
        match event {
            Event::Opened { client, user, device } => {
                sessions.insert(*client, Session { user, device, since: *since });
            }
            Event::Closed { client } => drop(sessions.remove(client)),
            _ => {}
        }
    }
    sessions
}

/// Checks that each message has one place, each place one message, and each conversation one incarnation.
fn places(events: &[(Duration, Event)], reads: &[Read]) -> BTreeSet<Violation> {
    let observed = events.iter().filter_map(|(_, event)| match event {
        Event::Acknowledged { body, place, .. } | Event::Pushed { body, place, .. } => Some((place, body)),
        _ => None,
    });
    let read = reads.iter().flat_map(|read| &read.messages).map(|(place, body)| (place, body));
    let (mut of_body, mut of_place, mut incarnations) = (HashMap::new(), HashMap::new(), HashMap::new());
    let mut violations = BTreeSet::new();
    for (place, body) in observed.chain(read) {
        let one = *of_body.entry(body).or_insert(place);
        if one != place {
            violations.insert(Violation::Doubled { body: body.clone(), one: one.clone(), other: place.clone() });
        }
        let one: &String = of_place.entry(place).or_insert(body);
        if one != body {
            violations.insert(Violation::Conflict { place: place.clone(), one: one.clone(), other: body.clone() });
        }
        if *incarnations.entry(&place.conversation).or_insert(place.incarnation) != place.incarnation {
            violations.insert(Violation::TwoHistories { conversation: place.conversation.clone() });
        }
    }
    violations
}

/// Checks that the messages that new devices read are the acknowledged ones, and perhaps some whose outcome is unknown.
fn stored(events: &[(Duration, Event)], reads: &[Read]) -> BTreeSet<Violation> {
    let mut violations = BTreeSet::new();
    let (mut members, mut failed, mut acknowledged) = (HashMap::new(), HashSet::new(), BTreeSet::new());
    for (_, event) in events {
        match event {
            Event::Invoked { body, members: of } => drop(members.insert(body, of)),
            Event::Failed { body } => drop(failed.insert(body)),
            Event::Acknowledged { body, .. } => drop(acknowledged.insert(body)),
            _ => {}
        }
    }
    for Read { user, conversations, messages } in reads {
        let bodies: HashSet<_> = messages.iter().map(|(_, body)| body).collect();
        for body in &acknowledged {
            let is_member = members.get(*body).is_some_and(|of| of.contains(user));
            if is_member && !bodies.contains(*body) {
                violations.insert(Violation::Lost { user: user.clone(), body: (*body).clone() });
            }
        }
        for body in bodies.iter().filter(|body| !members.contains_key(**body) || failed.contains(**body)) {
            violations.insert(Violation::Invented { body: (*body).clone() });
        }
        let mut received: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (place, _) in messages {
            received.entry(&place.conversation).or_default().push(place.seq);
        }
        for (conversation, last) in conversations {
            let numbers = received.remove(conversation).unwrap_or_default();
            if !numbers.iter().copied().eq(1..=*last) {
                violations.insert(hole(user, conversation, &numbers, *last));
            }
        }
        for (conversation, numbers) in received {
            violations.insert(hole(user, conversation, &numbers, 0));
        }
    }
    violations
}

fn hole(user: &str, conversation: &str, numbers: &[u64], last: u64) -> Violation {
    let correct = (1..).zip(numbers).take_while(|(expected, seq)| *expected == **seq).count();
    let received = numbers[correct.saturating_sub(2)..numbers.len().min(correct + 3)].to_vec();
    Violation::Hole { user: user.to_owned(), conversation: conversation.to_owned(), received, last }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(seq: u64) -> Place {
        Place { conversation: "c".to_owned(), incarnation: 7, seq }
    }

    fn invoked(body: &str) -> Event {
        Event::Invoked { body: body.to_owned(), members: ["ann".to_owned(), "bo".to_owned()].into() }
    }

    fn acknowledged(body: &str, seq: u64) -> Event {
        Event::Acknowledged { client: 1, body: body.to_owned(), place: place(seq) }
    }

    fn pushed(client: u32, body: &str, seq: u64) -> Event {
        Event::Pushed { client, body: body.to_owned(), place: place(seq) }
    }

    fn opened(client: u32, user: &str) -> Event {
        Event::Opened { client, user: user.to_owned(), device: "phone".to_owned() }
    }

    fn timed(events: Vec<Event>) -> Vec<(Duration, Event)> {
        (0..).map(Duration::from_secs).zip(events).collect()
    }

    /// Ann sends two messages to Bo, who has a session.
    fn events() -> Vec<Event> {
        vec![
            opened(1, "ann"),
            opened(2, "bo"),
            invoked("m1"),
            pushed(2, "m1", 1),
            acknowledged("m1", 1),
            invoked("m2"),
            acknowledged("m2", 2),
            pushed(2, "m2", 2),
        ]
    }

    fn read(user: &str, messages: &[(u64, &str)]) -> Read {
        let last = messages.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
        let messages = messages.iter().map(|(seq, body)| (place(*seq), (*body).to_owned())).collect();
        Read { user: user.to_owned(), conversations: vec![("c".to_owned(), last)], messages }
    }

    fn reads() -> Vec<Read> {
        ["ann", "bo"].map(|user| read(user, &[(1, "m1"), (2, "m2")])).to_vec()
    }

    fn found(events: Vec<Event>, reads: &[Read]) -> Vec<Violation> {
        check(&timed(events), reads)
    }

    #[test]
    fn correct_history_has_no_violations() {
        assert_eq!(found(events(), &reads()), []);
    }

    #[test]
    fn unknown_message_may_be_stored_or_not() {
        let mut events = events();
        events.extend([invoked("m3"), Event::Unknown { body: "m3".to_owned() }]);
        assert_eq!(found(events.clone(), &reads()), []);
        let stored = [read("bo", &[(1, "m1"), (2, "m2"), (3, "m3")])];
        assert_eq!(found(events, &stored), []);
    }

    #[test]
    fn lost_message_is_found_for_each_member() {
        let reads = [read("ann", &[(1, "m1")]), read("bo", &[(1, "m1"), (2, "m2")])];
        let lost = Violation::Lost { user: "ann".to_owned(), body: "m2".to_owned() };
        assert_eq!(found(events(), &reads), [lost]);
    }

    #[test]
    fn message_stored_twice_is_found() {
        let reads = [read("bo", &[(1, "m1"), (2, "m2"), (3, "m1")])];
        let doubled = Violation::Doubled { body: "m1".to_owned(), one: place(1), other: place(3) };
        assert_eq!(found(events(), &reads), [doubled]);
    }

    #[test]
    fn message_read_elsewhere_than_acknowledged_is_found() {
        let reads = [read("bo", &[(1, "m2"), (2, "m1")])];
        let violations = found(events(), &reads);
        assert!(
            violations.iter().any(|violation| matches!(violation, Violation::Doubled { body, .. } if body == "m1"))
        );
        assert!(
            violations.iter().any(|violation| matches!(violation, Violation::Conflict { place, .. } if place.seq == 1))
        );
    }

    #[test]
    fn hole_and_repetition_in_sequence_are_found() {
        let mut events = events();
        events.extend([invoked("m4"), acknowledged("m4", 4), pushed(2, "m4", 4)]);
        let (user, conversation) = ("bo".to_owned(), "c".to_owned());
        let reads = [read("bo", &[(1, "m1"), (2, "m2"), (4, "m4")])];
        let hole = Violation::Hole { user, conversation, received: vec![1, 2, 4], last: 4 };
        assert_eq!(found(events, &reads), [hole]);
        let reads = [read("bo", &[(1, "m1"), (2, "m2"), (2, "m2")])];
        assert!(
            matches!(&found(self::events(), &reads)[..], [Violation::Hole { received, .. }] if *received == [1, 2, 2])
        );
    }

    #[test]
    fn two_messages_at_one_place_are_found() {
        let mut events = events();
        events.extend([invoked("other"), pushed(1, "other", 2)]);
        let conflict = Violation::Conflict { place: place(2), one: "m2".to_owned(), other: "other".to_owned() };
        assert_eq!(found(events, &reads()), [conflict]);
    }

    #[test]
    fn history_that_begins_anew_is_found() {
        let mut events = events();
        let place = Place { incarnation: 8, ..place(1) };
        events.extend([invoked("m3"), Event::Acknowledged { client: 1, body: "m3".to_owned(), place: place.clone() }]);
        events.push(Event::Pushed { client: 2, body: "m3".to_owned(), place });
        let violations = found(events, &[]);
        assert_eq!(violations, [Violation::TwoHistories { conversation: "c".to_owned() }]);
    }

    #[test]
    fn stored_message_that_was_rejected_is_found() {
        let mut events = events();
        events.extend([invoked("m3"), Event::Failed { body: "m3".to_owned() }]);
        let reads = [read("bo", &[(1, "m1"), (2, "m2"), (3, "m3")])];
        assert_eq!(found(events.clone(), &reads), [Violation::Invented { body: "m3".to_owned() }]);
        let reads = [read("bo", &[(1, "m1"), (2, "m2"), (3, "unsent")])];
        assert_eq!(found(events, &reads), [Violation::Invented { body: "unsent".to_owned() }]);
    }

    #[test]
    fn second_session_of_a_device_is_found_until_it_ends() {
        let mut events = events();
        events.push(opened(3, "bo"));
        let two = Violation::TwoSessions { user: "bo".to_owned(), device: "phone".to_owned(), count: 2 };
        assert_eq!(found(events.clone(), &reads()), [two]);
        events.push(Event::Closed { client: 2 });
        assert_eq!(found(events, &reads()), []);
    }

    #[test]
    fn session_without_push_is_found() {
        let mut events = events();
        events.extend([opened(3, "ann"), invoked("m3"), acknowledged("m3", 3), pushed(2, "m3", 3)]);
        events.push(Event::Closed { client: 1 });
        let deaf = Violation::Deaf { client: 3, user: "ann".to_owned(), body: "m3".to_owned(), told: false };
        assert_eq!(found(events.clone(), &[]), [deaf]);
        // A session need not receive the messages from before it began, nor after its end.
        events.push(Event::Closed { client: 3 });
        assert_eq!(found(events.clone(), &[]), []);
        events.push(opened(3, "ann"));
        assert_eq!(found(events, &[]), []);
    }
}

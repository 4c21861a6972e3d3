//! Questions between nodes: an operator at one asks what all have served. Questions are signed by an operator, answers by the node
//! that gives them; both are small, short-lived and kept nowhere.
//!
//! What is asked and answered is for those who have the history; here it is bytes.
//!
//! INVARIANT: a node answers no one but operators, and only so many at a time. An edge node's key gets nothing out of others.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use phalanx_model::{Author, AuthorRole};
use phalanx_trust::{Refusal, SignedRecord, random_bytes};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::shared::Shared;
use crate::{Delivery, FleetError, FleetHandle, Topic, subject};

/// A question of an operator, to be answered by this node.
pub struct Question {
    /// Who asks.
    pub asker: Author,
    /// What.
    pub bytes: Vec<u8>,
    id: Id,
    shared: Arc<Shared>,
}

/// What a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its site.
    pub site: Arc<str>,
    /// Its name.
    pub node: Arc<str>,
    /// What it said.
    pub bytes: Vec<u8>,
}

/// What is under way.
#[derive(Default)]
pub(crate) struct Inquiries {
    /// Own questions: where their answers go.
    asked: Mutex<HashMap<Id, mpsc::Sender<Answer>>>,
    /// Who answers others' questions.
    answers: Mutex<Option<mpsc::Sender<Question>>>,
}

impl FleetHandle {
    /// Asks all other nodes, as an operator. Answers arrive until the receiver is dropped; who does not answer is silent.
    pub async fn ask(&self, question: &[u8]) -> Result<mpsc::Receiver<Answer>, FleetError> {
        let shared = &self.shared;
        let id: Id = random_bytes();
        let subject = subject::of_question(&shared.me.site, &shared.me.node);
        let body = [&id, question].concat();
        if body.len() > QUESTION_BYTES_MAX {
            return Err(FleetError::Limit("the question is too long"));
        }
        let put = shared.sign_fast_as(AuthorRole::Operator, Topic::Questions, subject, &body, QUESTION_MS)?;
        let (to, answers) = mpsc::channel(ANSWERS_QUEUE);
        {
            let mut asked = shared.inquiries.asked.lock();
            asked.retain(|_, to| !to.is_closed());
            if asked.len() >= ASKED_MAX {
                return Err(FleetError::Limit("too many questions are under way at this node"));
            }
            asked.insert(id, to);
        }
        shared.engine.publish(put).await?;
        Ok(answers)
    }

    /// The questions of operators at other nodes. Whoever takes them last gets them; what nobody takes is not answered.
    pub fn questions(&self) -> mpsc::Receiver<Question> {
        let (to, questions) = mpsc::channel(QUESTIONS_QUEUE);
        *self.shared.inquiries.answers.lock() = Some(to);
        questions
    }
}

impl Question {
    /// Answers. What is too long is not sent.
    pub async fn answer(self, answer: &[u8]) {
        let Self { asker, id, shared, .. } = self;
        let body = [&id, answer].concat();
        if body.len() > ANSWER_BYTES_MAX {
            tracing::warn!(
                bytes = body.len(),
                "an answer to an operator at another node is too long to be sent"
            );
            return;
        }
        let subject = subject::of_answer(&asker, &shared.me.site, &shared.me.node);
        if let Ok(put) = shared.sign_fast(Topic::Answers, subject, &body, QUESTION_MS) {
            let _ = shared.engine.publish(put).await;
        }
    }
}

/// Listens for questions, and where operators may ask for answers.
pub(crate) fn start(shared: &Arc<Shared>, tasks: &mut JoinSet<()>) {
    tasks.spawn(take_questions(Arc::clone(shared), shared.engine.subscribe(Topic::Questions)));
    if shared.keys.operator.is_some() {
        tasks.spawn(take_answers(Arc::clone(shared), shared.engine.subscribe(Topic::Answers)));
    }
}

async fn take_questions(shared: Arc<Shared>, mut told: mpsc::Receiver<Delivery>) {
    while let Some(delivery) = told.recv().await {
        let Delivery::Put { subject, bytes } = delivery else { continue };
        if *subject == *subject::of_question(&shared.me.site, &shared.me.node) {
            continue;
        }
        let takes = shared.inquiries.answers.lock().clone();
        let Some(takes) = takes else { continue };
        match open(&shared, &subject, &bytes, AuthorRole::Operator) {
            // More than can be answered at a time: the asker sees who is silent.
            Ok((asker, id, bytes)) if *subject == *subject::of_question(&asker.site, &asker.node) => {
                let _ = takes.try_send(Question { asker, bytes, id, shared: Arc::clone(&shared) });
            }
            Ok(_) => shared.refuse(&subject, &Refusal::WrongSubject),
            Err(Refusal::UnknownAuthor(_)) => {}
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }
}

async fn take_answers(shared: Arc<Shared>, mut told: mpsc::Receiver<Delivery>) {
    let me = shared.me.author(AuthorRole::Node);
    while let Some(delivery) = told.recv().await {
        let Delivery::Put { subject, bytes } = delivery else { continue };
        match open(&shared, &subject, &bytes, AuthorRole::Node) {
            Ok((Author { site, node, .. }, id, bytes))
                if *subject == *subject::of_answer(&me, &site, &node) =>
            {
                let to = shared.inquiries.asked.lock().get(&id).cloned();
                if let Some(to) = to {
                    let _ = to.try_send(Answer { site, node, bytes });
                }
            }
            Ok(_) => shared.refuse(&subject, &Refusal::WrongSubject),
            Err(Refusal::UnknownAuthor(_)) => {}
            Err(refusal) => shared.refuse(&subject, &refusal),
        }
    }
}

fn open(
    shared: &Shared,
    subject: &str,
    bytes: &Bytes,
    role: AuthorRole,
) -> Result<(Author, Id, Vec<u8>), Refusal> {
    let record = SignedRecord::from_bytes(bytes)?;
    if record.author.role != role {
        return Err(Refusal::NotAllowed("only an operator asks, and only a node answers"));
    }
    shared.roots.read().verify(&record, subject, shared.clock.now_ms())?;
    let unreadable = || Refusal::Unreadable("a question or an answer without an id".into());
    let (id, rest) = record.body.split_first_chunk().ok_or_else(unreadable)?;
    Ok((record.author, *id, rest.to_vec()))
}

type Id = [u8; 16];

/// How long a question or an answer counts; clocks may differ a little.
const QUESTION_MS: u64 = 60_000;
/// A question about copies names each of them.
const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// In base64 and with its signature well below the largest message.
const ANSWER_BYTES_MAX: usize = 40 * 1024;
/// Questions of one node under way.
const ASKED_MAX: usize = 16;
/// Answers that wait to be read: as many as there are nodes, and more.
const ANSWERS_QUEUE: usize = 256;
/// Questions that wait to be answered.
const QUESTIONS_QUEUE: usize = 8;

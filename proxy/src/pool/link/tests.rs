use std::{
    io::IoSlice,
    task::{Context, Poll},
};

use scatterhoard_node::conduit::Outlet;
use scatterhoard_wire::{
    SPOKEN,
    stream::{Assembler, Frame},
};

use super::*;

/// What was written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Outlet for Kept {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut kept = self.0.lock();
        let before = kept.len();
        slices
            .iter()
            .for_each(|slice| kept.extend_from_slice(slice));
        Ok(kept.len() - before)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Kept {
    fn messages(&self) -> Vec<Message> {
        let mut assembler = Assembler::default();
        bytes::BufMut::put_slice(&mut assembler.spare(), &self.0.lock());
        assembler.filled(self.0.lock().len());
        let next = || assembler.next_frame().unwrap();
        std::iter::from_fn(next).map(|f: Frame| f.message).collect()
    }
}

#[tokio::test]
async fn who_owes_no_answer_is_not_mute() {
    let kept = Kept::default();
    let link = Link::new(
        InvocationId(7),
        SPOKEN.newest(),
        Writer::Local(Box::new(kept.clone())),
    );
    let (sender, _answers) = mpsc::channel(4);
    let is_mute = || link.is_mute(Duration::ZERO);
    assert!(!is_mute());
    let call = link.call(Asker::single(&sender)).unwrap();
    assert!(is_mute(), "it owes an answer");
    // as the reader does: something came, and is the answer
    link.heard();
    link.answer(call.request, Answer::Deleted).unwrap();
    assert!(!is_mute());
    drop(call);
    assert_eq!(kept.messages(), []);
    // given up: it is asked whether it is there, and mute until it says so
    drop(link.call(Asker::single(&sender)).unwrap());
    assert!(is_mute());
    assert_eq!(kept.messages(), [Message::Cancel, Message::Ping]);
    link.heard();
    link.answer(0, Answer::Pong).unwrap();
    assert!(!is_mute());
}

#[tokio::test]
async fn what_precedes_a_request_is_written_with_it() {
    let kept = Kept::default();
    let link = Link::new(
        InvocationId(7),
        SPOKEN.newest(),
        Writer::Local(Box::new(kept.clone())),
    );
    let delete = Message::Delete(Vec::new());
    assert!(link.precede(&delete));
    assert_eq!(kept.messages(), [], "it waits for what follows");
    assert!(link.send(&Message::Ping));
    assert_eq!(kept.messages(), [delete, Message::Ping]);
}

#[tokio::test]
async fn what_precedes_nothing_is_written_by_the_task() {
    let kept = Kept::default();
    let link = Link::new(
        InvocationId(7),
        SPOKEN.newest(),
        Writer::Local(Box::new(kept.clone())),
    );
    let delete = Message::Delete(Vec::new());
    assert!(link.precede(&delete));
    let served = tokio::time::timeout(Duration::from_millis(1), serving::write(&link)).await;
    assert!(served.is_err(), "it serves until the link ends");
    assert_eq!(kept.messages(), [delete]);
}

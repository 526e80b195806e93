//! Timers and queues of events. nginx-sys has these functions too, but with its own accessors of bit fields.

use core::ptr::null_mut;

use nginx_sys::{
    NGX_TIMER_LAZY_DELAY, ngx_current_msec, ngx_event_t, ngx_event_timer_rbtree, ngx_msec_t,
    ngx_queue_insert_before, ngx_queue_remove, ngx_queue_t, ngx_rbtree_delete, ngx_rbtree_insert,
};

use super::bits;

/// `ngx_event_add_timer`.
///
/// # Safety
/// `event` must be one of NGINX's or made like those, and stay where it is until the timer has expired or was deleted.
#[inline]
pub unsafe fn add_timer(event: *mut ngx_event_t, wait_ms: ngx_msec_t) {
    // SAFETY: as the caller says; only the event loop's thread uses the tree.
    unsafe {
        let key = (&raw const ngx_current_msec).read_volatile().wrapping_add(wait_ms);
        if bits::event::TIMER_SET.is_set(event) {
            // a timer that would hardly move stays, which saves operations on the tree
            if key.abs_diff((*event).timer.key) < NGX_TIMER_LAZY_DELAY as ngx_msec_t {
                return;
            }
            delete_timer(event);
        }
        (*event).timer.key = key;
        ngx_rbtree_insert(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        bits::event::TIMER_SET.set(event, 1);
    }
}

/// `ngx_event_del_timer`.
///
/// # Safety
/// The event's timer must be set.
#[inline]
pub unsafe fn delete_timer(event: *mut ngx_event_t) {
    // SAFETY: as the caller says.
    unsafe {
        ngx_rbtree_delete(&raw mut ngx_event_timer_rbtree, &raw mut (*event).timer);
        if cfg!(ngx_feature = "debug") {
            (*event).timer.left = null_mut();
            (*event).timer.right = null_mut();
            (*event).timer.parent = null_mut();
        }
        bits::event::TIMER_SET.set(event, 0);
    }
}

/// `ngx_post_event`.
///
/// # Safety
/// `event` and `queue` must be NGINX's, or made like those.
#[inline]
pub unsafe fn post(event: *mut ngx_event_t, queue: *mut ngx_queue_t) {
    // SAFETY: as the caller says.
    unsafe {
        if !bits::event::POSTED.is_set(event) {
            bits::event::POSTED.set(event, 1);
            ngx_queue_insert_before(queue, &raw mut (*event).queue);
        }
    }
}

/// `ngx_delete_posted_event`.
///
/// # Safety
/// The event must be in a queue.
#[inline]
pub unsafe fn delete_posted(event: *mut ngx_event_t) {
    // SAFETY: as the caller says.
    unsafe {
        bits::event::POSTED.set(event, 0);
        ngx_queue_remove(&raw mut (*event).queue);
    }
}

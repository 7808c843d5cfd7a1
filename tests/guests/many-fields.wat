;; Logs an event with 1,400,000 empty fields.
(module
  (import "reloader:plugin/log@0.1.0" "event"
    (func $event (param i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 352)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $event
      (i32.const 3)
      (i32.const 128) (i32.const 1)
      (i32.const 128) (i32.const 1)
      (i32.const 65536) (i32.const 1400000))
    (i32.const 64))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\01\00\00\00")
  (data (i32.const 128) "x")
)

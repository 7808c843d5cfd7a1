;; Returns a different value of 8 MiB from each call, and sends change events without end.
(module
  (memory (export "memory") 130)
  (func $count
    (i32.store (i32.const 65536) (i32.add (i32.const 1) (i32.load (i32.const 65536)))))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $count)
    (i32.const 64))
  (func (export "reloader:plugin/watch@0.1.0#arm") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/watch@0.1.0#next") (result i32)
    (call $count)
    (i32.const 192))
  ;; `changed`, of 8 MiB at 65536
  (data (i32.const 72) "\02\00\00\00\00\00\01\00\00\00\80\00")
  (data (i32.const 200) "\00\00\00\00\00\00\01\00\00\00\80\00")
)

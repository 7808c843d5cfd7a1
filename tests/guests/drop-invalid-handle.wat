;; Drops a handle that it does not own.
(module
  (import "reloader:plugin/files@0.1.0" "[resource-drop]file-watch" (func $drop (param i32)))
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (call $drop (i32.const 1))
    (i32.const 64))
)

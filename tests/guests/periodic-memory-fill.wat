;; Event flood that fills all of its memory with one instruction in every 70th call.
(module
  (memory (export "memory") 256)
  (global $calls (mut i32) (i32.const 0))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (i32.const 64))
  (func (export "reloader:plugin/watch@0.1.0#arm") (param i32 i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/watch@0.1.0#next") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 70)))
      (then (memory.fill (i32.const 65536) (global.get $calls) (i32.const 16711680))))
    (i32.const 192))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\01\00\00\00")
  (data (i32.const 128) "x")
  ;; `alive`
  (data (i32.const 200) "\03")
)

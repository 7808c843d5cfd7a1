;; Minimal source with the value `x`; template of the other text guests.
;;
;; Memory layout: the result of `open` (success) at address 0; the result of `reload` at 64, with the
;; address and length of the value. Guests with a watch have the result of `next` at 192.
(module
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
  (func (export "reloader:plugin/reload@0.1.0#open") (param i32 i32) (result i32) (i32.const 0))
  (func (export "reloader:plugin/reload@0.1.0#reload") (param i32 i32 i32) (result i32)
    (i32.const 64))
  (data (i32.const 72) "\02\00\00\00\80\00\00\00\01\00\00\00")
  (data (i32.const 128) "x")
)

using Writer

prompt = ARGS[1]
p = Predictor()
told(text) = "$(sizeof(text)) $(sum(Int.(codeunits(text))))"
drawn = (temperature = 1.2, top_k = 50, top_p = 0.95, seed = 7)

function refused(call, name)
    try
        call()
        println(name, ": no error")
    catch e
        println(name, ": ", sprint(showerror, e))
        return e
    end
end

ids = tokenize(p, prompt)
println("ids ", join(ids, " "))
println("back ", detokenize(p, ids))
println("plain ", length(tokenize(p, prompt; special = false)))
println("tokens ", join(generate(p, ids; max_tokens = 6, drawn...), " "))
pieces = String[]
text = write_text(piece -> (push!(pieces, piece); false), p, prompt; max_tokens = 20, drawn...)
println("text ", told(text), " ", length(pieces))
println("first ", told(write_text(_ -> true, p, prompt; max_tokens = 20, drawn...)))
write_text(p, prompt; max_tokens = 5, drawn...)
println("kept ", told(write_text(p, "and"; max_tokens = 4, keep = true)))
println("written ", told(refused(() -> write_text(p, prompt; max_tokens = 99, stop = Int[]), "full").written))
println("made ", length(refused(() -> generate(p, ids; max_tokens = 99), "full").written))
println("broken ", tokenize(p, "a\xff") == tokenize(p, "a\ufffd"))
refused(() -> tokenize(p, "a"^40000), "long")
refused(() -> generate(p, Int[]), "empty")
refused(() -> generate(p, [9999]), "token")
refused(() -> write_text(p, prompt; temperature = 1, top_p = 2), "sampler")
refused(() -> write_text(_ -> error("of its own"), p, prompt), "callback")
refused(() -> write_text(_ -> (close(p); tokenize(p, "a"); false), p, prompt), "nested")
close(p)
refused(() -> tokenize(p, prompt), "closed")

using System;
//@ if decodes
using System.Collections.Generic;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
//@ end
using System.Text;

namespace @Name@
{
//@ if decodes
    /// <summary>How a text is written.</summary>
    public sealed class Generation
    {
        /// <summary>The most tokens to write.</summary>
        public int MaxTokens { get; set; } = 128;

        /// <summary>0: the likeliest token each time. Else a token's chance is softmax(scores / temperature).</summary>
        public float Temperature { get; set; }

        /// <summary>Only the so many likeliest are chosen from; 0: all.</summary>
        public int TopK { get; set; }

        /// <summary>Of those only the likeliest that together have at least this share.</summary>
        public float TopP { get; set; } = 1;

        /// <summary>The same seed gives the same text.</summary>
        public ulong Seed { get; set; }

        /// <summary>Tokens that end the text and are not given; null: none, or in Write those that the model names.</summary>
        public long[] Stop { get; set; }

        /// <summary>Whether the prompt goes on from the text so far, that the predictor has read and written.</summary>
        public bool Keep { get; set; }
    }

    /// <summary>The text would get longer than a predictor keeps.</summary>
    public sealed class FullException : Exception
    {
        /// <summary>The tokens that were written before.</summary>
        public IReadOnlyList<long> Tokens { get; internal set; } = new long[0];
//@ if writes

        /// <summary>What was written before.</summary>
        public string Text { get; internal set; } = "";
//@ end

        internal FullException() : base("@full@") { }
    }

//@ end
    public sealed partial class Predictor
    {
        const int TooLong = 9;
//@ if decodes
        const int BadArgument = 1, Full = 10;
        bool writing;
//@ end
//@ if tokenizer

        /// <summary>The ids of a text; special: with the tokens around it.</summary>
        /// <exception cref="ArgumentException">The text is too long.</exception>
        public int[] Tokenize(string text, bool special = true)
        {
            var utf8 = Encoding.UTF8.GetBytes(text);
            var around = special ? 1 : 0;
            lock (turn)
            {
                var ids = new int[utf8.Length + 16];
                var status = @name@_tokenize(handle, utf8, Size(utf8), around, ids, Size(ids), out var count);
                Array.Resize(ref ids, (int)count);
                if (status == TooLong && ids.Length > 0)
                    status = @name@_tokenize(handle, utf8, Size(utf8), around, ids, count, out count);
                CheckText(status);
                return ids;
            }
        }

        /// <summary>The text of ids; special: with special tokens. Ids without a token are left out.</summary>
        public string Detokenize(int[] ids, bool special = false)
        {
            lock (turn)
            {
                var text = new byte[16 * ids.Length];
                var written = special ? 1 : 0;
                var status = @name@_detokenize(handle, ids, Size(ids), written, text, Size(text), out var bytes);
                Array.Resize(ref text, (int)bytes);
                if (status == TooLong)
                    status = @name@_detokenize(handle, ids, Size(ids), written, text, bytes, out bytes);
                CheckText(status);
                return Encoding.UTF8.GetString(text);
            }
        }
//@ end
//@ if embeds

        /// <summary>The embedding of a text, @embedding@ numbers; cut: of the beginning of one that is too long.</summary>
        /// <exception cref="ArgumentException">The text is too long.</exception>
        public float[] Embed(string text, bool cut = false)
        {
            var utf8 = Encoding.UTF8.GetBytes(text);
            var embedding = new float[@embedding@];
            lock (turn)
            {
                var status = @name@_embed(handle, utf8, Size(utf8), cut ? 1 : 0, embedding);
                if (status == TooLong && utf8.Length <= @text_bytes@)
                    throw new ArgumentException("@too_many_tokens@");
                CheckText(status);
                return embedding;
            }
        }
//@ end
//@ if decodes

        /// <summary>The tokens that the model writes after a prompt.</summary>
        /// <param name="onToken">Is called with each token; true ends the text.</param>
        /// <exception cref="ArgumentException">The prompt is empty or has a token that is none.</exception>
        /// <exception cref="FullException">The text gets too long.</exception>
        public IReadOnlyList<long> Generate(long[] prompt, Generation how = null, Func<long, bool> onToken = null)
        {
            if (prompt == null) throw new ArgumentNullException(nameof(prompt));
            how = how ?? new Generation();
            var sampler = new RawSampler(how);
            var stop = how.Stop ?? new long[0];
            var tokens = new List<long>();
            ExceptionDispatchInfo thrown = null;
            OnToken take = (_, token) =>
            {
                tokens.Add(token);
                return Ends(onToken, token, ref thrown);
            };
            var status = Alone(how, () => @name@_generate(
                handle, prompt, Size(prompt), (UIntPtr)how.MaxTokens, ref sampler, stop, Size(stop), take, IntPtr.Zero,
                IntPtr.Zero, IntPtr.Zero));
            thrown?.Throw();
            if (status == Full) throw new FullException { Tokens = tokens };
            CheckText(status);
            return tokens;
        }
//@ end
//@ if writes

        /// <summary>What the model writes after a prompt.</summary>
        /// <param name="onText">Is called with each piece of the text; true ends it.</param>
        /// <exception cref="ArgumentException">The prompt is empty or too long.</exception>
        /// <exception cref="FullException">The text gets too long.</exception>
        public string Write(string prompt, Generation how = null, Func<string, bool> onText = null)
        {
            var utf8 = Encoding.UTF8.GetBytes(prompt);
            how = how ?? new Generation();
            var sampler = new RawSampler(how);
            var text = new StringBuilder();
            ExceptionDispatchInfo thrown = null;
            OnText take = (_, data, bytes) =>
            {
                var piece = new byte[(int)bytes];
                Marshal.Copy(data, piece, 0, piece.Length);
                text.Append(Encoding.UTF8.GetString(piece));
                return Ends(onText, Encoding.UTF8.GetString(piece), ref thrown);
            };
            var status = Alone(how, () => @name@_write(
                handle, utf8, Size(utf8), (UIntPtr)how.MaxTokens, ref sampler, how.Stop, Size(how.Stop), take,
                IntPtr.Zero, IntPtr.Zero, UIntPtr.Zero, IntPtr.Zero));
            thrown?.Throw();
            if (status == Full) throw new FullException { Text = text.ToString() };
            CheckText(status);
            return text.ToString();
        }
//@ end

        static UIntPtr Size(Array data) => (UIntPtr)(data == null ? 0 : data.Length);

        static void CheckText(int status)
        {
            if (status == TooLong) throw new ArgumentException("@too_long@");
//@ if decodes
            if (status == BadArgument) throw new ArgumentException("@refused@");
//@ end
            Check(status);
        }
//@ if decodes

        // Calls what writes a text, unless it is called while another is written.
        int Alone(Generation how, Func<int> write)
        {
            lock (turn)
            {
                if (writing) throw new InvalidOperationException("the predictor is writing");
                if (!how.Keep) Check(@name@_rewind(handle, UIntPtr.Zero));
                writing = true;
                try { return write(); }
                finally { writing = false; }
            }
        }

        // C knows no exceptions: one ends the text, and is thrown again when C has returned.
        static int Ends<T>(Func<T, bool> call, T value, ref ExceptionDispatchInfo thrown)
        {
            try
            {
                return call != null && call(value) ? 1 : 0;
            }
            catch (Exception e)
            {
                thrown = ExceptionDispatchInfo.Capture(e);
                return 1;
            }
        }

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        delegate int OnToken(IntPtr user, long token);
//@ if writes

        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        delegate int OnText(IntPtr user, IntPtr text, UIntPtr bytes);
//@ end

        [StructLayout(LayoutKind.Sequential)]
        struct RawSampler
        {
            readonly float temperature;
            readonly int topK;
            readonly float topP;
            readonly ulong seed;

            internal RawSampler(Generation how)
            {
                if (how.MaxTokens < 0) throw new ArgumentException($"{how.MaxTokens} tokens are no number of tokens");
                temperature = how.Temperature;
                topK = how.TopK;
                topP = how.TopP;
                seed = how.Seed;
            }
        }
//@ end
    }
}

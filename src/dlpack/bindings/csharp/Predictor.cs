using System;
//@ if lists
using System.Collections.Generic;
//@ end
using System.Runtime.InteropServices;
//@ if side
using System.Text;
//@ end

namespace @Name@
{
    /// <summary>What went wrong in the compiled code, in words.</summary>
    public sealed class PredictorException : Exception
    {
        internal PredictorException(string message) : base(message) { }
    }

    /// <summary>What a run gives, row-major.</summary>
    public sealed class Outputs
    {
        @fields@
//@ if shapes

        internal Outputs(Predictor of)
        {
            @make_fields@
        }
//@ end
    }

//@ if classes
    /// <summary>A class: its place in the output, its name (the place in digits if it has none), its probability.</summary>
    public sealed class Classification
    {
        public int Index { get; internal set; }
        public string Label { get; internal set; }
        public float Probability { get; internal set; }
    }

//@ end
//@ if boxes
    /// <summary>A box in a picture: its class and its name (the place in digits where it has none), its score, its upper left
    /// corner and size in pixels.</summary>
    public sealed class Detection
    {
        public int Index { get; internal set; }
        public string Label { get; internal set; }
        public float Score { get; internal set; }
        public float X { get; internal set; }
        public float Y { get; internal set; }
        public float Width { get; internal set; }
        public float Height { get; internal set; }
    }

//@ end
    /// <summary>
    /// The model @name@. @about@
    /// Several threads may call one predictor, which serves them in turn; to compute at the same time make several.
    /// A predictor that is disposed of throws ObjectDisposedException.
    /// </summary>
    public sealed partial class Predictor : IDisposable
    {
        readonly Handle handle;
        readonly object turn = new object();

//@ if side
        /// <summary>Maps the weights, the file @weights@ of the bundle.</summary>
//@ if open
        @memory_docs@
//@ end
        /// <exception cref="PredictorException">The weights are missing or damaged.</exception>
//@ if open
        public Predictor(string weights, long memory = 0)
        {
            var path = Encoding.UTF8.GetBytes(weights + "\0");
            Check(@name@_create_from_file_within(out handle, path, (UIntPtr)(ulong)memory));
        }
//@ else
        public Predictor(string weights)
        {
            Check(@name@_create_from_file(out handle, Encoding.UTF8.GetBytes(weights + "\0")));
        }
//@ end
//@ else
//@ if open
        @memory_docs@
        /// <exception cref="PredictorException">No memory, or a processor that lacks what the code needs.</exception>
        public Predictor(long memory = 0)
        {
            Check(@name@_create(out handle, IntPtr.Zero, (UIntPtr)(ulong)memory, IntPtr.Zero, UIntPtr.Zero));
        }
//@ else
        /// <exception cref="PredictorException">No memory, or a processor that lacks what the code needs.</exception>
        public Predictor()
        {
            Check(@name@_create(out handle, IntPtr.Zero, UIntPtr.Zero, IntPtr.Zero, UIntPtr.Zero));
        }
//@ end
//@ end

//@ if shapes
        /// <summary>The number of the set of shapes that inputs and outputs have, at first 0.</summary>
        @shape_docs@
        /// <exception cref="ArgumentException">There is no set of that number.</exception>
        public int Shape
        {
            get { return @name@_shape(handle); }
            set
            {
                if (value < 0 || value >= @shape_count@)
                    throw new ArgumentException($"set of shapes {value}: there are @shape_count@, from 0 on");
                lock (turn) Check(@name@_set_shape(handle, value));
            }
        }
//@ if open

        @reshapes@

        void Reshape(int input, long[] extents, string what)
        {
            if (extents == null) throw new ArgumentNullException(nameof(extents));
            lock (turn)
            {
                var status = @name@_reshape(handle, input, extents, extents.Length);
                if (status == 1) throw new ArgumentException($"{what}, not {string.Join("x", extents)}");
                Check(status);
            }
        }

        static long Memory(int input, long[] extents, string what)
        {
            if (extents == null) throw new ArgumentNullException(nameof(extents));
            var bytes = (long)@name@_memory_size_for(input, extents, extents.Length);
            return bytes > 0 ? bytes : throw new ArgumentException($"{what}, not {string.Join("x", extents)}");
        }
//@ end

        int InputBytes(int index) => (int)Marshal.PtrToStructure<RawTensor>(@name@_input_of(handle, index)).Bytes;

        internal int OutputBytes(int index) => (int)Marshal.PtrToStructure<RawTensor>(@name@_output_of(handle, index)).Bytes;

//@ end
//@ if threads
        /// <summary>Computes on this many threads from now on, at most @threads@; at first on as many as there are processors.</summary>
        /// <exception cref="ArgumentException">It is below 1 or above @threads@.</exception>
        public void SetThreads(int count)
        {
            if (count < 1 || count > @threads@)
                throw new ArgumentException($"{count} threads: from 1 to @threads@ can be chosen");
            lock (turn) Check(@name@_set_threads(handle, count));
        }

//@ end
        /// <summary>Computes all outputs.</summary>
        @input_docs@
        /// <exception cref="ArgumentException">An input has a wrong length.</exception>
        public Outputs Run(@parameters@)
        {
            lock (turn)
            {
                @set_inputs@
                Check(@name@_run(handle));
                var outputs = new Outputs(@shape@);
                @get_outputs@
                return outputs;
            }
        }
//@ if pictures
//@ if classes

        /// <summary>The likeliest classes of a picture, the likeliest first.</summary>
        /// <param name="rgb">Rows of pixels, the bytes R, G, B of each.</param>
        /// <exception cref="ArgumentException">It has not as many bytes as 3 x width x height.</exception>
        public IReadOnlyList<Classification> Classify(byte[] rgb, int width, int height, int count = 5)
        {
            lock (turn)
            {
                RunPicture(rgb, width, height);
                return Top(count);
            }
        }
//@ end
//@ if boxes

        /// <summary>What is in a picture, the surest first.</summary>
        /// <param name="rgb">Rows of pixels, the bytes R, G, B of each.</param>
        /// <param name="threshold">The least score.</param>
        /// <exception cref="ArgumentException">It has not as many bytes as 3 x width x height.</exception>
        public IReadOnlyList<Detection> Detect(byte[] rgb, int width, int height, double threshold = @threshold@)
        {
            lock (turn)
            {
                RunPicture(rgb, width, height);
                var found = new RawDetection[@most@];
                Check(@name@_detections(handle, width, height, threshold, found.Length, found, out var count));
                Array.Resize(ref found, count);
                return Array.ConvertAll(found, d => new Detection
                {
                    Index = d.Index, Label = Label(d.Label, d.Index), Score = d.Score, X = d.X, Y = d.Y, Width = d.Width,
                    Height = d.Height,
                });
            }
        }
//@ end

        void RunPicture(byte[] rgb, int width, int height)
        {
            if (rgb == null) throw new ArgumentNullException(nameof(rgb));
            if (width < 1 || height < 1 || rgb.LongLength != 3L * width * height)
                throw new ArgumentException($"the picture has {rgb.Length} bytes; 3 x {width} x {height} are needed");
            Check(@name@_preprocess_rgb(handle, rgb, width, height, (IntPtr)(3 * width)));
            Check(@name@_run(handle));
        }
//@ end
//@ if numbers

        /// <summary>The likeliest classes of the inputs that Run takes, the likeliest first.</summary>
        public IReadOnlyList<Classification> Classify(@parameters@, int count = 5)
        {
            lock (turn)
            {
                Run(@arguments@);
                return Top(count);
            }
        }
//@ end

        /// <summary>Gives the memory back. Doing so twice is no error.</summary>
        public void Dispose()
        {
            lock (turn) handle.Dispose();
        }
//@ if classes

        Classification[] Top(int count)
        {
            var found = new RawClass[Math.Min(Math.Max(count, 0), @class_count@)];
            Check(@name@_top_k(handle, @scores@, found.Length, found));
            return Array.ConvertAll(found, c => new Classification
            {
                Index = c.Index, Label = Label(c.Label, c.Index), Probability = c.Probability,
            });
        }
//@ end

//@ if inputs
        void Set(int index, Array data, int size, string what)
        {
            if (data == null) throw new ArgumentNullException(what);
            if (data.Length != size)
                throw new ArgumentException($"{what} has {data.Length} elements; {size} are needed");
            Pinned(data, (address, bytes) => @name@_set_input(handle, index, address, bytes));
        }

//@ end
        void Get(int index, Array data) =>
            Pinned(data, (address, bytes) => @name@_get_output(handle, index, address, bytes));

        static void Pinned(Array data, Func<IntPtr, UIntPtr, int> call)
        {
            var pin = GCHandle.Alloc(data, GCHandleType.Pinned);
            try { Check(call(pin.AddrOfPinnedObject(), (UIntPtr)Buffer.ByteLength(data))); }
            finally { pin.Free(); }
        }
    }
}

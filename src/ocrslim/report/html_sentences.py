"""The sentences of the report: key -> English, Chinese. Names in braces are filled in."""

from __future__ import annotations

__all__ = ["SENTENCES"]

SENTENCES: dict[str, tuple[str, str]] = {
    # The page.
    "title one": ("{name} for {target}: OCRSlim report", "{name}（{target}）：OCRSlim 报告"),
    "title many": ("{n} runs compared: OCRSlim report", "{n} 次运行对比：OCRSlim 报告"),
    "heading one": ("{name} for {target}", "{name}，用于 {target}"),
    "heading many": ("{n} runs compared", "{n} 次运行对比"),
    "skip": ("Skip to the content", "跳到正文"),
    "contents": ("Contents", "目录"),
    "made": ("Made by ocrslim {version}", "由 ocrslim {version} 生成"),
    "private": (
        "This file holds paths of the machine it was made on, and pictures where models differ: look before you share.",
        "本文件含有生成它的机器上的路径，以及模型答案不同之处的图片：分享前请先查看。",
    ),
    # The verdict.
    "verdict": ("Verdict", "结论"),
    "headline kept": ("Within the budget, {time}", "在预算之内，{time}"),
    "headline unsure": (
        "Within the budget as measured (too few images to be sure), {time}",
        "实测在预算之内（图像太少，不能确定），{time}",
    ),
    "headline missed": ("Not within the budget, {time}", "超出预算，{time}"),
    "headline over": (
        "Within the budget on what was held back, NOT on --eval; {time}",
        "在预留部分上在预算之内，在 --eval 上超出预算；{time}",
    ),
    "headline unlabelled": (
        "Without labels nobody can tell whether the budget holds; {time}",
        "没有标注，无法判断是否在预算之内；{time}",
    ),
    "headline rewritten": ("Float, rewritten: {time}", "浮点（改写）：{time}"),
    "headline original": (
        "Float as it came in: rewriting it gains no time here",
        "保留原浮点模型：改写在这里省不了时间",
    ),
    "headline pruned": ("Pruned, still float: {time}", "已剪枝，仍为浮点：{time}"),
    "faster": ("{times} times as fast on {engine}", "在 {engine} 上速度为浮点的 {times} 倍"),
    "not faster": ("not faster on {engine}", "在 {engine} 上没有变快"),
    "untimed": ("not timed on {engine}", "未在 {engine} 上计时"),
    "float delivered": (
        "int8 gains no time here: model.onnx is the float model; the int8 one lies beside it as int8.onnx.",
        "int8 在这里省不了时间：model.onnx 是浮点模型；int8 模型在旁边的 int8.onnx。",
    ),
    "rewritten delivered": (
        "A float model is better here: model.onnx is the float one as this engine runs it fastest, rounded nowhere; the"
        " int8 one lies beside it as int8.onnx.",
        "这里浮点更好：model.onnx 是改写后的浮点模型，没有舍入，在此引擎上最快；int8 模型在旁边的 int8.onnx。",
    ),
    "original delivered": (
        "model.onnx is the float model that came in; the rewritten one, whose figures follow, was not kept.",
        "model.onnx 就是输入的浮点模型；以下数字属于改写后的模型，它没有保留。",
    ),
    "goal missed": (
        "The goal was not reached, no further channel pays: {ratio} of the cost is left.",
        "未达到目标，再剪任何通道都不合算：剩余开销为原来的 {ratio}。",
    ),
    "untrained": (
        "With its channels cut, before any training: {loss} ({interval}).",
        "剪去通道、尚未训练时：{loss}（{interval}）。",
    ),
    "over on eval": (
        "On the images of --eval more than {points} points were lost, though not on the held-back part.",
        "在 --eval 的图像上损失超过 {points} 个百分点，尽管在预留部分上没有超过。",
    ),
    "budget": ("Budget", "预算"),
    "budget of": ("at most {points} points lost", "最多损失 {points} 个百分点"),
    "budget kept": ("kept", "满足"),
    "budget unsure": ("kept, not surely", "满足，但不确定"),
    "budget missed": ("not kept", "不满足"),
    "budget over": ("not kept on --eval", "在 --eval 上不满足"),
    "budget unlabelled": ("cannot be told without labels", "没有标注，无法判断"),
    "held back": (
        "On {n} held-back images: {loss} ({interval})",
        "在 {n} 张未参与训练的图像上：{loss}（{interval}）",
    ),
    "images to tell": ("some {n} images would tell", "约需 {n} 张图像才能判断"),
    "what changed": ("Accuracy", "精度"),
    "time": ("Time", "时间"),
    "time of float": ("{ratio} of the time of float", "为浮点时间的 {ratio}"),
    "timed on": ("{engine}, {threads} threads, {cpu}", "{engine}，{threads} 线程，{cpu}"),
    "size": ("Size", "大小"),
    "size of float": ("{ratio} of the size of float", "为浮点大小的 {ratio}"),
    "megabytes": ("{before} MB to {after} MB", "从 {before} MB 到 {after} MB"),
    "interval of": ("95 % interval {interval}, {n} images", "95% 区间 {interval}，{n} 张图像"),
    # Words of figures.
    "metric accuracy": ("accuracy", "准确率"),
    "metric loose accuracy": ("loose accuracy", "宽松准确率"),
    "metric norm_edit_distance": ("1 - normalised edit distance", "1 - 归一化编辑距离"),
    "metric hmean": ("hmean", "hmean"),
    "metric precision": ("precision", "精确率"),
    "metric recall": ("recall", "召回率"),
    "loose": ("{metric}, loose", "{metric}（宽松）"),
    "lost": ("{points} points of {metric} lost", "{metric}损失 {points} 个百分点"),
    "gained": ("{points} points of {metric} gained", "{metric}提高 {points} 个百分点"),
    "lines differ": (
        "no labels: {points} % of the lines read otherwise than float reads them",
        "无标注：{points}% 的文本行与浮点模型的读法不同",
    ),
    "boxes differ": (
        "no labels: {points} points of hmean away from the boxes that float finds",
        "无标注：与浮点模型检出的框相差 {points} 个百分点（hmean）",
    ),
    # Float against compressed.
    "figures": ("Float against compressed", "浮点与压缩对比"),
    "judged by": ("Judged by {what}.", "评判依据：{what}。"),
    "metric": ("Metric", "指标"),
    "engine": ("Engine", "引擎"),
    "float": ("float", "浮点"),
    "int8": ("int8", "int8"),
    "rewritten": ("float, rewritten", "浮点（改写）"),
    "pruned": ("pruned", "剪枝"),
    "not kept": ("{what}, not kept", "{what}，未保留"),
    "the int8": ("int8", "int8"),
    "the rewritten": ("rewritten", "改写后的"),
    "the pruned": ("pruned", "剪枝后的"),
    "change": ("Change, points", "变化（百分点）"),
    "interval": ("95 % interval", "95% 区间"),
    "images": ("Images", "图像数"),
    "verified": (
        "The exported file in its engine agrees with the trained model: {kind} {value} of {n} (at least {required}).",
        "导出文件在引擎中与训练的模型一致：{kind} {value}，共 {n}（至少 {required}）。",
    ),
    "verified rewritten": (
        "The rewritten file in its engine agrees with the original: {kind} {value} of {n} (at least {required}).",
        "改写后的文件在引擎中与原模型一致：{kind} {value}，共 {n}（至少 {required}）。",
    ),
    "not verified": (
        "The exported file does NOT agree with the trained model: {kind} {value} of {n} (at least {required} asked).",
        "导出文件与训练的模型不一致：{kind} {value}，共 {n}（要求至少 {required}）。",
    ),
    # Latency.
    "latency": ("Latency", "延迟"),
    "latency chart": ("Time of one run, median", "单次运行时间，中位数"),
    "latency axis": ("median, ms", "中位数，毫秒"),
    "latency under": (
        "Input {shape}, {runs} runs in turns; right: 10th to 90th percentile",
        "输入 {shape}，交替运行 {runs} 次；右侧：第 10 至第 90 百分位",
    ),
    "bar": ("{model}, {engine}, threads: {threads}", "{model}, {engine}, 线程: {threads}"),
    "threads": ("Threads", "线程"),
    "p10-p90": ("p10-p90, ms", "p10-p90，毫秒"),
    "median": ("Median, ms", "中位数，毫秒"),
    "of float": ("Of float on this engine", "相对该引擎上的浮点"),
    "model": ("Model", "模型"),
    "memory": ("Peak memory, MiB", "峰值内存，MiB"),
    "busy": (
        "Other programs kept {load} cores busy meanwhile: time again on a quiet machine.",
        "计时期间其他程序占用了 {load} 个核：请在空闲的机器上重新计时。",
    ),
    "no latency": ("Nothing was timed.", "没有计时。"),
    # The candidates.
    "candidates": ("Candidates tried", "试过的候选"),
    "candidates chart": ("Loss against divergence from float", "损失与偏离浮点的程度"),
    "candidates under": (
        "Numbers as in the table; bars: 95 % interval; hollow: not judged, another was nearer to float",
        "编号见表；竖线：95% 区间；空心：未评判，另有更接近浮点的候选",
    ),
    "front chart": ("Loss against time", "损失与用时"),
    "front under": (
        "Numbers as in the table, F: float; bars: 95 % interval; joined, * there: nothing is as fast and better",
        "编号见表，F：浮点；竖线：95% 区间；相连者（表中带 *）：没有别的候选同样快而更好",
    ),
    "front axis": ("share of the float model's time (less is faster)", "占浮点模型用时的比例（越少越快）"),
    "of float time short": ("Of float's time", "占浮点用时"),
    "divergence": ("Divergence from float", "偏离浮点的程度"),
    "points lost": ("points lost (less is better)", "损失的百分点（越少越好）"),
    "budget line": ("budget", "预算"),
    "number": ("No.", "编号"),
    "rung": ("Candidate", "候选"),
    "loss": ("Loss, points", "损失（百分点）"),
    "float sites": ("Sites made float", "改为浮点的位置"),
    "agreement": ("File and model agree", "文件与模型一致"),
    "chosen": ("chosen", "选用"),
    "not judged": ("not judged", "未评判"),
    # The differences.
    "differences": ("Where the two differ", "两者不同之处"),
    "differences of": (
        "{n} of {of} images differ: {worse} worse in the {made} model, {better} better, {other} neither. Shown:"
        " {shown}, the worst and the best first.",
        "{of} 张图像中有 {n} 张不同：{made}模型更差 {worse} 张，更好 {better} 张，其余 {other} 张。"
        "此处列出 {shown} 张，差别最大的在前。",
    ),
    "differences of agreement": (
        "{n} of {of} images differ. Shown: {shown}, the farthest first.",
        "{of} 张图像中有 {n} 张不同。此处列出 {shown} 张，差别最大的在前。",
    ),
    "no differences": (
        "Both models gave the same answer on all {of} images.",
        "两个模型在全部 {of} 张图像上的答案相同。",
    ),
    "differences unknown": (
        "result.json keeps no list of them: it was written by an older ocrslim.",
        "result.json 没有这份列表：它由较早的 ocrslim 写成。",
    ),
    "image": ("Image", "图像"),
    "image of": ("Image {n}: {name}", "图像 {n}：{name}"),
    "no image": ("The image is not there any more: {path}", "图像已不存在：{path}"),
    "image not kept": (
        "The image was rendered or given as pixels and is not kept.",
        "图像为合成或以像素给出，未保存。",
    ),
    "image left out": ("The image is left out: this file would be too large.", "图像从略：否则本文件过大。"),
    "label": ("Label", "标注"),
    "nothing read": ("(nothing)", "（无）"),
    "boxes": ("{n} boxes, {alone} without a partner", "{n} 个框，其中 {alone} 个无对应"),
    "matched": ("{matched} of {labelled} labels found", "找到 {labelled} 个标注中的 {matched} 个"),
    "boxes legend": (
        "Thin: both models found it. Thick and dashed: only this one did.",
        "细线：两个模型都找到。粗虚线：只有这一个找到。",
    ),
    # How it was made.
    "sensitivity": ("Sensitivity by layer", "各层敏感度"),
    "sensitivity title": ("Sensitivity of {name} for {target}", "{name} 对 {target} 的敏感度"),
    "sensitivity under": (
        "{n} sites, each alone in int8, the worst first. Right: signal to noise of its output; {what} decided"
        " otherwise; share of the work",
        "{n} 处，逐一单独量化，最差的在前。右侧：输出的信噪比；判断改变的{what}；计算量占比",
    ),
    "sensitivity mark": ("saved when it alone is float", "仅它保持浮点时减少的量"),
    "sensitivity rest": (
        "and {n} less sensitive sites; sensitivity.csv tells of all",
        "以及 {n} 处敏感度更低；sensitivity.csv 列出全部",
    ),
    "sensitivity none": (
        "Not measured: the budget was held before it was needed, or the effort did not reach so far.",
        "未测量：在需要之前已满足预算，或所设的力度没有到这一步。",
    ),
    "rec divergence": ("Jensen-Shannon divergence from float, nat", "与浮点的 Jensen-Shannon 散度，nat"),
    "det divergence": ("map divergence from float (binary KL + dice), no unit", "与浮点的概率图散度（二元 KL + dice）"),
    "rec decisions": ("frames", "帧"),
    "det decisions": ("text pixels", "文本像素"),
    "sqnr": ("SQNR", "信噪比"),
    "changed": ("changed", "改变"),
    "work": ("work", "计算量"),
    "training": ("Training curves", "训练曲线"),
    "training of": (
        "{steps} steps in {seconds} s; the best after {best}.",
        "{steps} 步，{seconds} 秒；第 {best} 步最好。",
    ),
    "taught": (
        "Before anything was quantized the last layer learned from the labels of {lines} lines: {points} points of"
        " accuracy on {held} others, {folded} with case, spaces and full-width signs folded.",
        "量化之前，最后一层从 {lines} 行的标注学习：在另外 {held} 行上准确率变化 {points} 点，"
        "忽略大小写、空格和全角之分时为 {folded} 点。",
    ),
    "taught pruned": (
        "After the training the last layer learned from the labels of {lines} lines: {points} points of accuracy on"
        " {held} others, {folded} with case, spaces and full-width signs folded.",
        "训练之后，最后一层从 {lines} 行的标注学习：在另外 {held} 行上准确率变化 {points} 点，"
        "忽略大小写、空格和全角之分时为 {folded} 点。",
    ),
    "not trained": ("Not trained.", "未训练。"),
    "training none": ("Not trained: calibrated only.", "未训练：仅校准。"),
    "step": ("step", "步"),
    "Step": ("Step", "步数"),
    "training table": ("The same as a table", "同样内容的表格"),
    "series train": ("training", "训练"),
    "series held": ("held back", "未参与训练"),
    "channels": ("Channels that were cut", "剪去的通道"),
    "channels of": (
        "{n} groups of layers whose channels belong together; {narrower} have fewer now.",
        "{n} 组通道相互关联的层；其中 {narrower} 组变窄。",
    ),
    "channels by": ("Channels made by", "通道来自"),
    "before": ("Before", "之前"),
    "after": ("After", "之后"),
    "why no fewer": ("Why no fewer", "为何不再减少"),
    "layers": ("Size by layer", "各层大小"),
    "layers chart": ("Bytes in the file by layer, the largest first", "文件中各层的字节数，最大的在前"),
    "layers under": (
        "{n} layers with constants, {total} MB in {file}. Right: type of the weights; share of the file's constants",
        "{n} 层带常量，{file} 中共 {total} MB。右侧：权重类型；占文件常量的比例",
    ),
    "layers axis": ("kB", "kB"),
    "layers mark": ("in float32", "float32 时"),
    "layers none": ("Not known: {why}.", "未知：{why}。"),
    "layers rest": ("and {n} smaller layers, {size} MB together", "以及 {n} 个更小的层，共 {size} MB"),
    "type": ("type", "类型"),
    "share": ("share", "占比"),
    "kept float": ("What stayed float, and why", "保持浮点的部分及原因"),
    "kept float of": (
        "{quantized} operators in int8, {kept} convolutions and products in float.",
        "{quantized} 个算子为 int8，{kept} 个卷积和乘积为浮点。",
    ),
    "placement used": (
        "The clock of this machine was asked where int8 pays: the fastest placement takes {ratio} of the usual one's"
        " time, and it is used.",
        "已在本机实测 int8 在哪里合算：最快的布置用时为通常布置的 {ratio}，已采用。",
    ),
    "placement not used": (
        "The clock of this machine was asked where int8 pays: the fastest placement takes {ratio} of the usual one's"
        " time. It would put more into int8 and is not used: by its loss, its grids or the engine's arithmetic.",
        "已在本机实测 int8 在哪里合算：最快的布置用时为通常布置的 {ratio}。"
        "它让更多部分变为 int8，因损失、实际网格的用时或引擎的计算而未采用。",
    ),
    "placement usual": (
        "The clock of this machine was asked where int8 pays: nothing but the usual operators is faster in int8. What"
        " is faster in float, if anything, is float: {ratio} of the usual placement's time.",
        "已在本机实测 int8 在哪里合算：除通常的算子外，没有别的变为 int8 会更快。"
        "若有算子浮点更快，则保持浮点：用时为通常布置的 {ratio}。",
    ),
    "changed alone": ("Changed alone", "单独改变"),
    "changed to": ("To", "改为"),
    "time saved": ("Time saved", "省下的时间"),
    "part of the fastest": ("In the fastest placement", "属于最快的布置"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "reason": ("Reason", "原因"),
    "count": ("Operators", "算子数"),
    "nodes": ("Names", "名称"),
    # How to do it again.
    "again": ("Command, versions and machine", "命令、版本与机器"),
    "command": ("Command", "命令"),
    "command unknown": (
        "not recorded; the settings below are all there is",
        "没有记录；仅有下列设置",
    ),
    "versions": ("Versions", "版本"),
    "cpu": ("CPU", "CPU"),
    "cores": ("{model}, {cores} cores", "{model}，{cores} 核"),
    "vnni": ("with VNNI or its like: sums of 8-bit products are exact", "带 VNNI 或同类指令：8 位乘积求和精确"),
    "no vnni": ("without VNNI: 8-bit products may saturate", "没有 VNNI：8 位乘积可能饱和"),
    "flags": ("Instruction sets", "指令集"),
    "source model": ("Float model", "浮点模型"),
    "licence": ("Licence", "许可证"),
    "unknown": ("not known", "未知"),
    "data": ("Data", "数据"),
    "rendered": ("rendered text", "合成文本"),
    "data of": (
        "{train} images to learn from, {held} held back, {eval} to judge by",
        "{train} 张用于学习，{held} 张保留，{eval} 张用于评判",
    ),
    "skipped": ("{n} images or labels were left out", "略去了 {n} 个图像或标注"),
    "stages": ("Time taken", "用时"),
    "stages of": ("{seconds} s in all, at most {peak} MiB of memory", "共 {seconds} 秒，内存最多 {peak} MiB"),
    "settings": ("Settings", "设置"),
    "setting": ("Setting", "设置项"),
    "value": ("Value", "值"),
    "notes": ("To know before reading the figures", "阅读数字之前须知"),
    # Several runs.
    "comparison": ("The runs side by side", "各次运行并列"),
    "comparison table": ("Each model against its own float model", "每个模型与各自的浮点模型对比"),
    "comparison chart": ("Loss against time", "损失与时间"),
    "comparison under": (
        "Left and low is better. Numbers: see the table. Bars: 95 % interval. Joined: nothing is as fast and better",
        "越靠左下越好。编号见表。竖线：95% 区间。相连者：没有别的同样快而更好",
    ),
    "comparison axis": ("time of float on the same engine, times", "相对同一引擎上浮点的时间，倍"),
    "of float time": ("Time of float, times", "相对浮点时间，倍"),
    "of float size": ("Size of float, times", "相对浮点大小，倍"),
    "compressed": ("compressed", "压缩后"),
    "ms compressed": ("Compressed, ms", "压缩后，毫秒"),
    "budget none": ("not held against one", "未按预算评判"),
    "not same": (
        "Judged on other images or timed on another machine: hold only what is the same against each other.",
        "评判图像或计时机器不同：只能比较条件相同的部分。",
    ),
}
